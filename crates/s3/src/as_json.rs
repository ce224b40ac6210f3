//! Types of other packages whose serde form is JSON's alone, as strings of JSON, so that bincode can carry them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// For `#[serde(with)]` on a [`kmsfs_sse::Request`].
pub(crate) mod request {
    use super::{Deserialize, Deserializer, Serializer};
    use kmsfs_sse::Request;

    pub(crate) fn serialize<S: Serializer>(request: &Request, serializer: S) -> Result<S::Ok, S::Error> {
        let json = serde_json::to_string(request).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&json)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Request, D::Error> {
        let json = String::deserialize(deserializer)?;
        serde_json::from_str(&json).map_err(serde::de::Error::custom)
    }
}

/// For `#[serde(with)]` on a [`kmsfs_sse::Configuration`].
pub(crate) mod configuration {
    use super::{Deserialize, Deserializer, Serializer};
    use kmsfs_sse::Configuration;

    pub(crate) fn serialize<S: Serializer>(value: &Configuration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.to_json().to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Configuration, D::Error> {
        let json = String::deserialize(deserializer)?;
        Configuration::parse(json.as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// For `#[serde(with)]` on a [`kmsfs_sse::BucketName`].
pub(crate) mod bucket {
    use super::{Deserialize, Deserializer, Serializer};
    use kmsfs_sse::BucketName;

    pub(crate) fn serialize<S: Serializer>(name: &BucketName, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BucketName, D::Error> {
        BucketName::parse(String::deserialize(deserializer)?).map_err(super::invalid::<D>)
    }
}

fn invalid<'de, D: Deserializer<'de>>(error: impl std::fmt::Display) -> D::Error {
    D::Error::custom(error)
}
