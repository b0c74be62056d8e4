//! `x-mcp-header`: which of a tool's arguments are mirrored into `Mcp-Param-*` headers.

use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{HeaderError, HeaderFault, PARAM_PREFIX, decode, header_value, says, single};
use crate::json::{Json, JsonError, Kind, Value};

const KEYWORD: &str = "x-mcp-header";

/// Why a tool's annotations make it invalid over HTTP: such a tool is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// The schema cannot be read.
    #[error("the schema is not JSON that is accepted here")]
    Json(#[from] JsonError),
    /// Not a non-empty string of token characters.
    #[error("an `x-mcp-header` that is no header name")]
    Name,
    /// Two annotations of one name.
    #[error("two `x-mcp-header` of the same name")]
    Repeated,
    /// On something else than a string, an integer or a boolean.
    #[error("an `x-mcp-header` on a parameter that is not a string, integer or boolean")]
    Type,
    /// Not reached through `properties` alone.
    #[error("an `x-mcp-header` that is not reached through `properties` alone")]
    Place,
}

/// The arguments of one tool that headers mirror.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamHeaders(Vec<ParamHeader>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct ParamHeader {
    header: HeaderName,
    path: Vec<String>,
}

impl FromStr for ParamHeaders {
    type Err = AnnotationError;

    fn from_str(schema: &str) -> Result<Self, AnnotationError> {
        let json = Json::parse(Bytes::copy_from_slice(schema.as_bytes()))?;
        Self::from_schema(json.root())
    }
}

impl ParamHeaders {
    /// Reads a tool's `inputSchema`.
    pub fn from_schema(schema: Value<'_>) -> Result<Self, AnnotationError> {
        let mut found = Self::default();
        found.visit(schema, Some(&[]))?;
        Ok(found)
    }

    /// Reads the annotations of a tool as a listing has it; without a schema there are none.
    pub fn of_tool(tool: Value<'_>) -> Result<Self, AnnotationError> {
        tool.get("inputSchema")
            .map_or_else(|| Ok(Self::default()), Self::from_schema)
    }

    /// Whether nothing is mirrored.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a schema reached through `path`, which is `None` behind anything but `properties`.
    fn visit(&mut self, schema: Value<'_>, path: Option<&[String]>) -> Result<(), AnnotationError> {
        for member in schema.members() {
            match &*member.name() {
                KEYWORD => self.annotate(schema, member.value, path)?,
                "properties" => {
                    for property in member.value.members() {
                        let deeper = path.map(|path| {
                            let mut path = path.to_vec();
                            path.push(property.name().into_owned());
                            path
                        });
                        self.visit(property.value, deeper.as_deref())?;
                    }
                }
                // These hold data, not schemas.
                "const" | "enum" | "default" | "examples" => {}
                // These hold schemas by name.
                "$defs" | "definitions" | "patternProperties" | "dependentSchemas" => {
                    for named in member.value.members() {
                        self.visit(named.value, None)?;
                    }
                }
                _ => {
                    self.visit(member.value, None)?;
                    for element in member.value.elements() {
                        self.visit(element, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn annotate(
        &mut self,
        schema: Value<'_>,
        name: Value<'_>,
        path: Option<&[String]>,
    ) -> Result<(), AnnotationError> {
        let path = path
            .filter(|path| !path.is_empty())
            .ok_or(AnnotationError::Place)?;
        let kind = schema.get("type").and_then(Value::as_str);
        if !matches!(kind.as_deref(), Some("string" | "integer" | "boolean")) {
            return Err(AnnotationError::Type);
        }
        let name = name.as_str().ok_or(AnnotationError::Name)?;
        if name.is_empty() {
            return Err(AnnotationError::Name);
        }
        // A header name is a token; it is compared in lower case from here on.
        let header = HeaderName::try_from(format!("{PARAM_PREFIX}{name}"))
            .map_err(|_| AnnotationError::Name)?;
        if self.knows(&header) {
            return Err(AnnotationError::Repeated);
        }
        self.0.push(ParamHeader {
            header,
            path: path.to_vec(),
        });
        Ok(())
    }

    fn knows(&self, header: &HeaderName) -> bool {
        self.0.iter().any(|param| param.header == *header)
    }

    /// Checks that the headers of a call say what its arguments say.
    pub fn check(
        &self,
        headers: &HeaderMap,
        arguments: Option<Value<'_>>,
    ) -> Result<(), HeaderError> {
        for param in &self.0 {
            let header = single(headers, &param.header)?;
            let fault = match (header, param.value(arguments)) {
                (None, None) => continue,
                (None, Some(_)) => HeaderFault::Missing,
                (Some(_), None) => HeaderFault::Mismatch,
                (Some(header), Some(value)) => {
                    if says(&decode(&param.header, header)?, value) {
                        continue;
                    }
                    HeaderFault::Mismatch
                }
            };
            return Err(HeaderError::new(&param.header, fault));
        }
        Ok(())
    }

    /// Writes the headers of a call.
    pub(super) fn write(
        &self,
        arguments: Option<Value<'_>>,
        headers: &mut HeaderMap,
    ) -> Result<(), HeaderError> {
        for param in &self.0 {
            if let Some(value) = param.value(arguments) {
                let value = header_value(value)
                    .ok_or_else(|| HeaderError::new(&param.header, HeaderFault::Value))?;
                headers.insert(param.header.clone(), value);
            }
        }
        Ok(())
    }
}

impl ParamHeader {
    /// What the arguments say at exactly this path; null counts as nothing.
    fn value<'a>(&self, arguments: Option<Value<'a>>) -> Option<Value<'a>> {
        self.path
            .iter()
            .try_fold(arguments?, |value, name| value.get(name))
            .filter(|value| value.kind() != Kind::Null)
    }
}
