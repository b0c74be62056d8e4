//! Introspection (RFC 7662): whether a token is good at this moment, told to the agent that it was
//! issued to.

use register::Active;
use serde_json::{Value, json};
use vocab::AgentId;
use vocab::Time;
use vocab::limits::CLOCK_LEEWAY_SECONDS;

use crate::access::Claims;
use crate::issuer::{Issuer, TokenError};
use crate::request::{OwnClient, OwnTokenRequest, RequestError};

impl Issuer {
    /// Answers `POST /oauth/introspect`. Of another's token, one that is not good at this moment and
    /// what is none it says the same. Whether policy would permit a call, and how many calls are
    /// left, is said by the call alone.
    pub fn introspection(&self, request: &OwnTokenRequest) -> Result<Value, TokenError> {
        let moment = self.moment();
        //= https://www.rfc-editor.org/rfc/rfc7662#section-2.1
        //# To prevent token scanning attacks, the endpoint MUST also require some form of
        //# authorization to access this endpoint
        let endpoint = self.public_url().introspection_endpoint();
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# To prevent this, the authorization server MUST require authentication of protected
        //# resources that need to access the introspection endpoint and SHOULD require protected
        //# resources to be specifically authorized to call the introspection endpoint.
        let OwnClient::Agent(client) = &request.client else {
            return Err(RequestError::NoAssertion.into());
        };
        let client = self.authenticate(client, &endpoint, moment)?;
        let token = request.token.expose();
        Ok(match self.lives(&client.agent, token, moment.now) {
            Some((claims, active)) => self.told(claims, &active),
            //= https://www.rfc-editor.org/rfc/rfc7662#section-2.2
            //# If the introspection call is properly authorized but the token is not active, does
            //# not exist on this server, or the protected resource is not allowed to introspect
            //# this particular token, then the authorization server MUST return an introspection
            //# response with the "active" field set to "false".
            //= https://www.rfc-editor.org/rfc/rfc7662#section-2.3
            //# In these cases, the authorization server MUST instead respond with an introspection
            //# response with the "active" field set to "false" as described in Section 2.2.
            None => json!({ "active": false }),
        })
    }

    /// What the agent's own token says, if it is good now and its whole chain stands.
    //= https://www.rfc-editor.org/rfc/rfc7662#section-4
    //# However, since resource servers using token introspection rely on the authorization server
    //# to determine the state of a token, the authorization server MUST perform all applicable
    //# checks against a token's state.
    fn lives(&self, agent: &AgentId, token: &str, now: Time) -> Option<(Claims, Active)> {
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# If the token has been signed, the authorization server MUST validate the signature.
        let (claims, _) = self.signed(token, now).ok()?;
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# If the token can expire, the authorization server MUST determine whether or not the
        //# token has expired.
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# If the token can be issued before it is able to be used, the authorization server MUST
        //# determine whether or not a token's valid period has started yet.
        let seconds = now.as_secs();
        let is_its_time =
            seconds < claims.expires_at && claims.issued_at <= seconds + CLOCK_LEEWAY_SECONDS;
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# If the token can be used only at certain resource servers, the authorization server MUST
        //# determine whether or not the token can be used at the resource server making the
        //# introspection call.
        //= https://www.rfc-editor.org/rfc/rfc7662#section-5
        //# When this is the case, measures MUST be taken to prevent disclosure of this information
        //# to unintended parties.
        if claims.agent != *agent || !is_its_time {
            return None;
        }
        let upstream = self.resource_named(&claims.audience)?;
        //= https://www.rfc-editor.org/rfc/rfc7662#section-4
        //# If the token can be revoked after it was issued, the authorization server MUST determine
        //# whether or not such a revocation has taken place.
        let standing = self
            .control()
            .standing_at(&claims.instance, &upstream, now)
            .active();
        Some((claims, standing.ok()?))
    }

    fn told(&self, mut claims: Claims, active: &Active) -> Value {
        let above = active.above().iter().rev();
        claims.delegated_by = above.map(|link| link.instance.id.clone()).collect();
        let mut told = claims.to_json(self.public_url().as_str());
        if let Some(told) = told.as_object_mut() {
            //= https://www.rfc-editor.org/rfc/rfc7662#section-2.2
            //# active REQUIRED. Boolean indicator of whether or not the presented token is
            //# currently active.
            told.insert("active".to_owned(), json!(true));
            //= https://www.rfc-editor.org/rfc/rfc9449#section-6.2
            //# If the token_type member is included in the introspection response, it MUST contain
            //# the value DPoP.
            let token_type = if claims.jkt.is_some() {
                "DPoP"
            } else {
                "Bearer"
            };
            told.insert("token_type".to_owned(), json!(token_type));
            //= https://www.rfc-editor.org/rfc/rfc9396#section-9
            //# In order to enable the RS to enforce the authorization details as approved in the
            //# authorization process, the AS MUST make this data available to the RS.
            //= https://www.rfc-editor.org/rfc/rfc9396#section-9.2
            //# If the AS includes authorization detail information for the token in its response,
            //# the information MUST be conveyed with authorization_details as a top-level member of
            //# the introspection response JSON object.
            //= https://www.rfc-editor.org/rfc/rfc9396#section-9.2
            //# The authorization_details member MUST contain the same structure defined in Section
            //# 2, potentially filtered and extended for the RS making the introspection request.
            if let Some(details) = self.details(active.instance()) {
                told.insert("authorization_details".to_owned(), json!(details));
            }
        }
        told
    }
}
