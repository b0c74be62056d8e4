//! What the node says about itself: RFC 8414 and RFC 9728 metadata, and its keys.

use serde_json::{Value, json};
use vocab::UpstreamName;
use vocab::authority::MCP_TOOL;

use crate::exchange::TOKEN_EXCHANGE;
use crate::issuer::Issuer;
use crate::jwk::{Algorithm, PublicKey};
use crate::request::JWT_BEARER;
use crate::uri::Resource;

impl Issuer {
    /// Authorization server metadata (RFC 8414), for `/.well-known/oauth-authorization-server`.
    pub fn metadata_as(&self) -> Value {
        let algorithms = Algorithm::NAMES;
        let url = self.public_url();
        let trust = self.trust();
        let (mut grants, mut methods) = (
            vec!["client_credentials", TOKEN_EXCHANGE],
            vec!["private_key_jwt"],
        );
        if trust.people {
            grants.extend(["authorization_code", "refresh_token"]);
        }
        if trust.assertions || !trust.workloads.is_empty() {
            grants.push(JWT_BEARER);
        }
        if trust.people || !trust.workloads.is_empty() {
            methods.push("none");
        }
        // A person's client may prove nothing but that it holds the token.
        let mut revokes = vec!["private_key_jwt"];
        if trust.people {
            revokes.push("none");
        }
        let mut metadata = json!({
            //= https://www.rfc-editor.org/rfc/rfc8414#section-3.3
            //# The "issuer" value returned MUST be identical to the authorization server's issuer
            //# identifier value into which the well-known URI string was inserted
            "issuer": url.as_str(),
            //= https://www.rfc-editor.org/rfc/rfc8414#section-2
            //# This is REQUIRED unless only the implicit grant type is supported.
            "token_endpoint": url.token_endpoint(),
            "revocation_endpoint": url.revocation_endpoint(),
            "revocation_endpoint_auth_methods_supported": revokes,
            //= https://www.rfc-editor.org/rfc/rfc8414#section-2
            //# This metadata entry MUST be present if either of these authentication methods are
            //# specified in the "revocation_endpoint_auth_methods_supported" entry.
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_endpoint": url.introspection_endpoint(),
            "introspection_endpoint_auth_methods_supported": ["private_key_jwt"],
            //= https://www.rfc-editor.org/rfc/rfc8414#section-2
            //# This metadata entry MUST be present if either of these authentication methods are
            //# specified in the "introspection_endpoint_auth_methods_supported" entry.
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            "jwks_uri": url.join("/oauth/jwks"),
            "grant_types_supported": grants,
            "authorization_details_types_supported": [MCP_TOOL],
            //= https://www.rfc-editor.org/rfc/rfc8414#section-2
            //# response_types_supported REQUIRED.
            //= https://www.rfc-editor.org/rfc/rfc8414#section-3.2
            //= type=exception
            //= reason=section 2 requires this one, which is empty where nobody can sign in
            //# Claims with zero elements MUST be omitted from the response.
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": methods,
            //= https://www.rfc-editor.org/rfc/rfc8414#section-2
            //# This metadata entry MUST be present if either of these authentication methods are
            //# specified in the "token_endpoint_auth_methods_supported" entry.
            //= https://www.rfc-editor.org/rfc/rfc8414#section-2
            //# The value "none" MUST NOT be used.
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "dpop_signing_alg_values_supported": algorithms,
        });
        let mut more = json!({});
        if trust.people {
            //= https://www.rfc-editor.org/rfc/rfc8414#section-2
            //# This is REQUIRED unless no grant types are supported that use the authorization
            //# endpoint.
            more = json!({
                "authorization_endpoint": url.join("/oauth/authorize"),
                "registration_endpoint": url.join("/oauth/register"),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
                "client_id_metadata_document_supported": true,
            });
        }
        if let (Some(metadata), Value::Object(more)) = (metadata.as_object_mut(), more) {
            metadata.extend(more);
            if trust.assertions {
                metadata.insert(
                    "authorization_grant_profiles_supported".to_owned(),
                    json!(["urn:ietf:params:oauth:grant-profile:id-jag"]),
                );
            }
        }
        metadata
    }

    /// Protected resource metadata (RFC 9728) of an upstream, for
    /// `/.well-known/oauth-protected-resource/mcp/{upstream}`; none if there is no such upstream.
    pub fn metadata_resource(&self, upstream: &UpstreamName) -> Option<Value> {
        if !self.serves(upstream) {
            return None;
        }
        let url = self.public_url();
        Some(json!({
            //= https://www.rfc-editor.org/rfc/rfc9728#section-2
            //# resource REQUIRED.
            //= https://www.rfc-editor.org/rfc/rfc9728#section-3.3
            //# The resource value returned MUST be identical to the protected resource's resource
            //# identifier value into which the well-known URI path suffix was inserted
            //= https://www.rfc-editor.org/rfc/rfc9728#section-3.3
            //# then the resource value returned MUST be identical to the URL that the client used
            //# to make the request to the resource server.
            "resource": Resource::new(url, upstream.clone()).uri(),
            "authorization_servers": [url.as_str()],
            "bearer_methods_supported": ["header"],
            "resource_name": format!("{upstream} through Tipstaff"),
            //= https://www.rfc-editor.org/rfc/rfc9728#section-3.2
            //# Parameters with zero values MUST be omitted from the response.
            "dpop_signing_alg_values_supported": Algorithm::NAMES,
            "dpop_bound_access_tokens_required": false,
            "authorization_details_types_supported": [MCP_TOOL],
        }))
    }

    /// The keys that verify access tokens (RFC 7517 §5): the one that signs, the one that is to sign
    /// next, and those before it for as long as a token of theirs can be valid.
    pub fn jwks(&self) -> Value {
        let keys: Vec<Value> = self
            .published_keys(self.moment().now)
            .iter()
            .map(PublicKey::to_jwk)
            .collect();
        json!({ "keys": keys })
    }
}
