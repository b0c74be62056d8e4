//! What a User and a Group are here: one table, which says what is kept, what filters and PATCH
//! may name, and what `/Schemas` tells.
//!
//! **The rule about everything else**: attributes that are not in the table are ignored, and
//! nothing is kept of them. A directory sends what its mapping says, and a leaver must not be
//! missed because of a fax number.

use serde_json::{Map, Value, json};

/// The URN of a user's core schema.
pub const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
/// The URN of a group's schema.
pub const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
/// The URN of the enterprise extension.
pub const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// The type of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// A moment.
    DateTime,
    /// Where something else is.
    Reference,
    /// Made of others.
    Complex,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::DateTime => "dateTime",
            Self::Reference => "reference",
            Self::Complex => "complex",
        }
    }
}

/// Who may change an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// The client.
    ReadWrite,
    /// The client, once.
    Immutable,
    /// Only we.
    ReadOnly,
}

impl Mutability {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "readWrite",
            Self::Immutable => "immutable",
            Self::ReadOnly => "readOnly",
        }
    }
}

/// An attribute.
#[derive(Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name, as it is written.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it has many values.
    pub multi: bool,
    /// Whether upper and lower case are told apart.
    pub case_exact: bool,
    /// Whether it must be there.
    pub required: bool,
    /// Who may change it.
    pub mutability: Mutability,
    /// Whether no two resources have the same.
    pub unique: bool,
    /// Whether it is in every answer, whatever was asked for.
    pub always: bool,
    /// The values that are usual.
    pub canonical: &'static [&'static str],
    /// What a reference is to.
    pub refers_to: &'static [&'static str],
    //= https://www.rfc-editor.org/rfc/rfc7643#section-1.2
    //# A simple attribute MUST NOT contain sub-attributes.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.8
    //# A complex attribute MUST NOT contain sub-attributes that have sub-attributes (i.e., that are
    //# complex).
    /// What it is made of.
    pub sub: &'static [Self],
    /// What it is.
    pub about: &'static str,
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-2.2
//# "required" is "false" (i.e., not REQUIRED),
const fn text(name: &'static str, about: &'static str) -> Attribute {
    Attribute {
        name,
        kind: Kind::String,
        multi: false,
        case_exact: false,
        required: false,
        mutability: Mutability::ReadWrite,
        unique: false,
        always: false,
        canonical: &[],
        refers_to: &[],
        sub: &[],
        about,
    }
}

/// Where another resource is. It is made from that one's id whenever it is shown; a client may say
/// it instead of the id.
const REF: Attribute = Attribute {
    kind: Kind::Reference,
    case_exact: true,
    ..text("$ref", "The URI of that resource.")
};

//= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
//# With the exception of the "ServiceProviderConfig" and "ResourceType" server discovery endpoints
//# and their associated resources, these attributes MUST be defined for all resources, including
//# any extended resource types.
/// What every resource has (RFC 7643 §3.1).
pub const COMMON: &[Attribute] = &[
    Attribute {
        case_exact: true,
        mutability: Mutability::ReadOnly,
        unique: true,
        always: true,
        ..text("id", "The identifier that we gave it.")
    },
    Attribute {
        case_exact: true,
        ..text(
            "externalId",
            "The identifier that the directory has for it.",
        )
    },
    Attribute {
        kind: Kind::Reference,
        multi: true,
        case_exact: true,
        mutability: Mutability::ReadOnly,
        always: true,
        ..text("schemas", "The schemas that it follows.")
    },
    Attribute {
        kind: Kind::Complex,
        mutability: Mutability::ReadOnly,
        sub: &[
            Attribute {
                case_exact: true,
                mutability: Mutability::ReadOnly,
                ..text("resourceType", "User or Group.")
            },
            Attribute {
                kind: Kind::DateTime,
                mutability: Mutability::ReadOnly,
                ..text("created", "When it was added.")
            },
            Attribute {
                kind: Kind::DateTime,
                mutability: Mutability::ReadOnly,
                ..text("lastModified", "When it was changed last.")
            },
            Attribute {
                kind: Kind::Reference,
                case_exact: true,
                mutability: Mutability::ReadOnly,
                ..text("location", "Its URI.")
            },
            Attribute {
                case_exact: true,
                mutability: Mutability::ReadOnly,
                ..text("version", "Its entity tag.")
            },
        ],
        ..text("meta", "About the resource itself.")
    },
];

/// A schema.
#[derive(Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its URN.
    pub id: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it is of.
    pub about: &'static str,
    /// Its attributes.
    pub attributes: &'static [Attribute],
}

static USER_SCHEMA: Schema = Schema {
    id: USER,
    name: "User",
    about: "A person who answers for agents, or may: a sponsor",
    attributes: &[
        Attribute {
            required: true,
            unique: true,
            ..text(
                "userName",
                "What administrators and policies call them: letters, digits and - _ . @ +",
            )
        },
        Attribute {
            kind: Kind::Complex,
            sub: &[
                text("formatted", "The whole name."),
                text("familyName", "The family name."),
                text("givenName", "The given name."),
            ],
            ..text("name", "The parts of their name.")
        },
        text("displayName", "Their name, as it is shown."),
        text("title", "Their title."),
        text("userType", "How they belong to the organisation."),
        Attribute {
            kind: Kind::Boolean,
            required: true,
            ..text(
                "active",
                "False stops everything that they sponsor, before the answer is sent. True for a \
                 new user of whom nothing else is said; it cannot be taken away.",
            )
        },
        Attribute {
            kind: Kind::Complex,
            multi: true,
            sub: &[
                //= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
                //# The predefined sub-attributes listed in this section can be used with
                //# multi-valued attribute objects, but these sub-attributes MUST be used with the
                //# meanings defined here.
                text("value", "The address."),
                Attribute {
                    canonical: &["work", "home", "other"],
                    ..text("type", "What it is for.")
                },
                Attribute {
                    kind: Kind::Boolean,
                    ..text("primary", "Whether it is the one to use.")
                },
            ],
            ..text("emails", "Their addresses.")
        },
        Attribute {
            kind: Kind::Complex,
            multi: true,
            mutability: Mutability::ReadOnly,
            sub: &[
                Attribute {
                    case_exact: true,
                    mutability: Mutability::ReadOnly,
                    ..text("value", "The group's id.")
                },
                Attribute {
                    mutability: Mutability::ReadOnly,
                    refers_to: &["Group"],
                    ..REF
                },
                Attribute {
                    mutability: Mutability::ReadOnly,
                    ..text("display", "The group's name.")
                },
            ],
            //= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.2
            //# Since this attribute has a mutability of "readOnly", group membership changes MUST be
            //# applied via the "Group" Resource (Section 4.2).
            ..text("groups", "The groups that they are a member of.")
        },
    ],
};

static ENTERPRISE_SCHEMA: Schema = Schema {
    id: ENTERPRISE,
    name: "EnterpriseUser",
    about: "What an organisation knows of its people",
    attributes: &[
        text("employeeNumber", "Their number."),
        text("department", "Their department."),
        Attribute {
            kind: Kind::Complex,
            sub: &[
                Attribute {
                    case_exact: true,
                    ..text("value", "The manager's id.")
                },
                Attribute {
                    refers_to: &["User"],
                    ..REF
                },
            ],
            ..text(
                "manager",
                "Their manager: offered when somebody has to take over, never applied silently.",
            )
        },
    ],
};

static GROUP_SCHEMA: Schema = Schema {
    id: GROUP,
    name: "Group",
    about: "A group of people, for policies to speak of",
    attributes: &[
        Attribute {
            required: true,
            ..text("displayName", "Its name.")
        },
        Attribute {
            kind: Kind::Complex,
            multi: true,
            sub: &[
                Attribute {
                    case_exact: true,
                    mutability: Mutability::Immutable,
                    ..text("value", "The member's id.")
                },
                Attribute {
                    mutability: Mutability::Immutable,
                    refers_to: &["User"],
                    ..REF
                },
            ],
            ..text("members", "The people in it.")
        },
    ],
};

/// A type of resource.
#[derive(Debug, PartialEq, Eq)]
pub struct ResourceType {
    /// Its name.
    pub name: &'static str,
    /// Where its resources are.
    pub endpoint: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its schema.
    pub schema: &'static Schema,
    /// The schemas that add to it; none must be there.
    pub extensions: &'static [&'static Schema],
}

/// Users.
pub static USERS: ResourceType = ResourceType {
    name: "User",
    endpoint: "/Users",
    about: "Sponsors",
    schema: &USER_SCHEMA,
    extensions: &[&ENTERPRISE_SCHEMA],
};

/// Groups.
pub static GROUPS: ResourceType = ResourceType {
    name: "Group",
    endpoint: "/Groups",
    about: "Groups of sponsors",
    schema: &GROUP_SCHEMA,
    extensions: &[],
};

/// Every type of resource.
pub static RESOURCE_TYPES: [&ResourceType; 2] = [&USERS, &GROUPS];

impl ResourceType {
    /// The extension of a URN, in any case.
    pub fn extension(&self, urn: &str) -> Option<&'static Schema> {
        let mut extensions = self.extensions.iter();
        extensions
            .find(|it| it.id.eq_ignore_ascii_case(urn))
            .copied()
    }

    /// As `/ResourceTypes` shows it.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# Unlike other core resources, all attributes are REQUIRED unless otherwise specified.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# When applicable, service providers MUST specify the name, e.g., "User" or "Group".
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# This name is referenced by the "meta.resourceType" attribute in all resources. REQUIRED.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# When applicable, service providers MUST specify the description.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# endpoint The resource type's HTTP-addressable endpoint relative to the Base URL of the
    //# service provider, e.g., "Users". REQUIRED.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# This MUST be equal to the "id" attribute of the associated "Schema" resource.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# This MUST be equal to the "id" attribute of the associated "Schema" resource. REQUIRED.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# This MUST be equal to the "id" attribute of a "Schema" resource.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# This MUST be equal to the "id" attribute of a "Schema" resource. REQUIRED.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-6
    //# If false, a resource of this type MAY omit this schema extension. REQUIRED.
    pub fn to_json(&self, base: &str) -> Value {
        let extensions: Vec<Value> = self
            .extensions
            .iter()
            .map(|it| json!({"schema": it.id, "required": false}))
            .collect();
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": self.name,
            "name": self.name,
            "endpoint": self.endpoint,
            "description": self.about,
            "schema": self.schema.id,
            "schemaExtensions": extensions,
            "meta": {
                "resourceType": "ResourceType",
                "location": format!("{base}/ResourceTypes/{}", self.name),
            },
        })
    }
}

impl Attribute {
    /// The one of a name, in any case.
    pub fn find(among: &'static [Self], name: &str) -> Option<&'static Self> {
        among.iter().find(|it| it.name.eq_ignore_ascii_case(name))
    }

    fn to_json(&self) -> Value {
        let mut shown = Map::new();
        let mut put = |name: &str, value: Value| shown.insert(name.to_owned(), value);
        put("name", self.name.into());
        put("type", self.kind.as_str().into());
        if self.kind == Kind::Complex {
            put(
                "subAttributes",
                self.sub.iter().map(Self::to_json).collect(),
            );
        }
        put("multiValued", self.multi.into());
        put("description", self.about.into());
        put("required", self.required.into());
        if !self.canonical.is_empty() {
            put("canonicalValues", self.canonical.into());
        }
        put("caseExact", self.case_exact.into());
        put("mutability", self.mutability.as_str().into());
        put(
            "returned",
            if self.always { "always" } else { "default" }.into(),
        );
        put(
            "uniqueness",
            if self.unique { "server" } else { "none" }.into(),
        );
        if self.kind == Kind::Reference {
            put("referenceTypes", self.refers_to.into());
        }
        Value::Object(shown)
    }
}

impl Schema {
    /// Every schema.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.1
    //# As SCIM protocol messages are fixed and defined by SCIM specifications and registered
    //# extensions, SCIM message schemas using the above prefix URN SHALL NOT be discoverable using
    //# the "/Schemas" endpoint.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-4
    //# An HTTP GET to the endpoint "/Schemas" SHALL return all supported schemas in ListResponse
    //# format (see Figure 3).
    pub fn all() -> impl Iterator<Item = &'static Self> {
        RESOURCE_TYPES
            .iter()
            .flat_map(|it| std::iter::once(&it.schema).chain(it.extensions))
            .copied()
    }

    /// As `/Schemas` shows it.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-7
    //# all attributes are REQUIRED unless otherwise specified.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-7
    //# When applicable, service providers MUST specify the URI, e.g.,
    //# "urn:ietf:params:scim:schemas:core:2.0:User".
    //= https://www.rfc-editor.org/rfc/rfc7643#section-7
    //# the schema "id" is a URI so that it can be registered and is portable between different
    //# service providers and clients. REQUIRED.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-7
    //# When applicable, service providers MUST specify the name, e.g., "User" or "Group".
    //= https://www.rfc-editor.org/rfc/rfc7643#section-7
    //# When applicable, service providers MUST specify the description.
    pub fn to_json(&self, base: &str) -> Value {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": self.id,
            "name": self.name,
            "description": self.about,
            "attributes": self.attributes.iter().map(Attribute::to_json).collect::<Vec<_>>(),
            "meta": {
                "resourceType": "Schema",
                "location": format!("{base}/Schemas/{}", self.id),
            },
        })
    }
}

/// What we can do (RFC 7643 §5).
pub fn service_provider_config(base: &str, page_max: usize) -> Value {
    json!({
        //= https://www.rfc-editor.org/rfc/rfc7644#section-4
        //# This endpoint SHALL return responses with a JSON object using a "schemas" attribute of
        //# "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig".
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# patch A complex type that specifies PATCH configuration options. REQUIRED. See Section
        //# 3.5.2 of [RFC7644].
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# supported A Boolean value specifying whether or not the operation is supported.
        //# REQUIRED.
        "patch": {"supported": true},
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# See Section 3.7 of [RFC7644]. REQUIRED.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# maxOperations An integer value specifying the maximum number of operations. REQUIRED.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# maxPayloadSize An integer value specifying the maximum payload size in bytes. REQUIRED.
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# filter A complex type that specifies FILTER options. REQUIRED. See Section 3.4.2.2 of
        //# [RFC7644].
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# maxResults An integer value specifying the maximum number of resources returned in a
        //# response. REQUIRED.
        "filter": {"supported": true, "maxResults": page_max},
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# changePassword A complex type that specifies configuration options related to changing a
        //# password. REQUIRED.
        "changePassword": {"supported": false},
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# sort A complex type that specifies Sort configuration options. REQUIRED.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# supported A Boolean value specifying whether or not sorting is supported. REQUIRED.
        "sort": {"supported": false},
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# etag A complex type that specifies ETag configuration options. REQUIRED.
        "etag": {"supported": true},
        //= https://www.rfc-editor.org/rfc/rfc7643#section-5
        //# make the authenticationSchemes attribute publicly accessible without prior
        //# authentication. REQUIRED. The following sub-attributes are defined:
        "authenticationSchemes": [{
            //= https://www.rfc-editor.org/rfc/rfc7643#section-5
            //# This specification defines the values "oauth", "oauth2", "oauthbearertoken",
            //# "httpbasic", and "httpdigest". REQUIRED.
            "type": "oauthbearertoken",
            //= https://www.rfc-editor.org/rfc/rfc7643#section-5
            //# name The common authentication scheme name, e.g., HTTP Basic. REQUIRED.
            "name": "Bearer token",
            //= https://www.rfc-editor.org/rfc/rfc7643#section-5
            //# description A description of the authentication scheme. REQUIRED.
            "description": "The token that `tipstaff scim token` prints",
            "specUri": "https://www.rfc-editor.org/rfc/rfc6750",
            "primary": true,
        }],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{base}/ServiceProviderConfig"),
        },
    })
}
