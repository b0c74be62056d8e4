//! Why a request of the directory's was not done, in the words of RFC 7644 §3.12.

use http::StatusCode;
use serde_json::{Value, json};

use super::filter::FilterError;
use crate::json::JsonError;

/// Why a request was not done. Nothing was changed, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScimError {
    /// The body is not the JSON that it should be.
    #[error("the body cannot be read: {0}")]
    Json(#[from] JsonError),
    /// The body, or the request, is not of the form of a SCIM message.
    #[error("{0}")]
    Syntax(String),
    /// The filter cannot be read.
    #[error("the filter cannot be read: {0}")]
    Filter(FilterError),
    /// The path of a PATCH operation cannot be read.
    #[error("the path `{path}` cannot be read: {cause}")]
    Path {
        /// The path.
        path: String,
        /// Why.
        cause: FilterError,
    },
    /// A value that the attribute cannot have.
    #[error("`{attribute}` {why}")]
    Value {
        /// The attribute.
        attribute: String,
        /// Why.
        why: String,
    },
    /// A PATCH operation that names nothing.
    #[error("{0}")]
    NoTarget(String),
    /// An attribute that is not the client's to change.
    #[error("`{0}` cannot be changed by a client")]
    Mutability(String),
    /// Somebody has it already.
    #[error("{0}")]
    Taken(String),
    /// Too much was asked for.
    #[error("{0}")]
    TooMany(String),
    /// No such resource, or not any more.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// What sort of resource.
        what: &'static str,
        /// The id that was given.
        id: String,
    },
    /// It is not what the client saw.
    #[error("the resource was changed since; fetch it again")]
    Changed,
    /// What we do not do.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The method does not go with the route.
    #[error("that method is not possible here; these are: {0}")]
    Method(&'static str),
    /// It is not what it should be for the operation, and may be later.
    #[error("{0}")]
    Conflict(String),
    /// It could not be recorded, so it was not done; or holds and could not be proven.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl ScimError {
    /// The status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Json(_)
            | Self::Syntax(_)
            | Self::Filter(_)
            | Self::Path { .. }
            | Self::Value { .. }
            | Self::NoTarget(_)
            | Self::Mutability(_)
            | Self::TooMany(_) => StatusCode::BAD_REQUEST,
            Self::Taken(_) | Self::Conflict(_) => StatusCode::CONFLICT,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Changed => StatusCode::PRECONDITION_FAILED,
            Self::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The detail of a `400` or `409`, from the closed list of RFC 7644 §3.12.
    pub const fn scim_type(&self) -> Option<&'static str> {
        match self {
            Self::Json(_) | Self::Syntax(_) => Some("invalidSyntax"),
            Self::Filter(_) => Some("invalidFilter"),
            Self::Path { .. } => Some("invalidPath"),
            Self::Value { .. } => Some("invalidValue"),
            Self::NoTarget(_) => Some("noTarget"),
            Self::Mutability(_) => Some("mutability"),
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
            //# If the service provider determines that the creation of the requested resource
            //# conflicts with existing resources (e.g., a "User" resource with a duplicate
            //# "userName"), the service provider MUST return HTTP status code 409 (Conflict) with a
            //# "scimType" error code of "uniqueness", as per Section 3.12.
            Self::Taken(_) => Some("uniqueness"),
            Self::TooMany(_) => Some("tooMany"),
            Self::NotFound { .. }
            | Self::Changed
            | Self::Unsupported(_)
            | Self::Method(_)
            | Self::Conflict(_)
            | Self::Unavailable(_) => None,
        }
    }

    /// The body of the answer.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.12
    //# In addition to returning an HTTP response code, implementers MUST return the errors in the
    //# body of the response in a JSON format, using the attributes described below.
    pub fn to_json(&self) -> Value {
        body(self.status(), self.scim_type(), &self.to_string())
    }
}

/// An error as SCIM words it.
pub fn body(status: StatusCode, scim_type: Option<&str>, detail: &str) -> Value {
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.12
    //# status
    //#    The HTTP status code (see Section 6 of [RFC7231]) expressed as a
    //#    JSON string.  REQUIRED.
    let mut body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": status.as_str(),
        "detail": detail,
    });
    if let (Some(scim_type), Some(members)) = (scim_type, body.as_object_mut()) {
        members.insert("scimType".to_owned(), scim_type.into());
    }
    body
}
