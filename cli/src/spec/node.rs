//! A YAML or JSON text as a tree of values, each with its line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, UserMessageFormatter};

use super::{Mistake, SpecError};
use crate::limits::{SPEC_DEPTH_MAX, SPEC_NODES_MAX};

/// A value and where it stands; line and column are from 1.
#[derive(Clone, Debug)]
pub struct Node {
    pub line: u64,
    pub column: u64,
    pub value: Value,
}

/// What YAML and JSON can say.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    Whole(i128),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A field's name and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    pub name: String,
    pub line: u64,
    pub column: u64,
}

impl Value {
    /// The value's kind with the value, for messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("the truth value {value}"),
            Self::Whole(value) => format!("the number {value}"),
            Self::Number(value) => format!("the number {value}"),
            Self::Text(_) => "a text".into(),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }

    /// The text. A number or truth value is refused: unquoted `0755` or `no` may mean something else than it says.
    pub fn text(&self) -> Result<&str, Mistake> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Bool(_) | Self::Whole(_) | Self::Number(_) => {
                Err(format!("wants a text, not {}; put it in quotes", self.describe()).into())
            }
            _ => Err(format!("wants a text, not {}", self.describe()).into()),
        }
    }

    /// `true` or `false`.
    pub fn truth(&self) -> Result<bool, Mistake> {
        match self {
            Self::Bool(value) => Ok(*value),
            _ => Err(format!("wants true or false, not {}", self.describe()).into()),
        }
    }

    /// A whole number from `least` to `most`.
    pub fn whole(&self, least: u32, most: u32) -> Result<u32, Mistake> {
        let wanted = format!("wants a whole number from {least} to {most}");
        match self {
            Self::Whole(number) => match u32::try_from(*number) {
                Ok(n) if (least..=most).contains(&n) => Ok(n),
                _ => Err(format!("{wanted}, not {number}").into()),
            },
            _ => Err(format!("{wanted}, not {}", self.describe()).into()),
        }
    }
}

/// Parses a text: strictly JSON if `json`, else YAML. YAML contains JSON, so that one reader finds every place.
pub fn parse(file: &str, text: &str, json: bool) -> Result<Node, SpecError> {
    if json {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| json_error(file, &error))?;
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: SPEC_NODES_MAX,
            max_events: SPEC_NODES_MAX * 2,
            max_depth: SPEC_DEPTH_MAX,
            max_documents: 1,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| yaml_error(file, &error))
}

fn json_error(file: &str, error: &serde_json::Error) -> SpecError {
    let whole = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = whole.strip_suffix(&place).unwrap_or(&whole);
    SpecError {
        file: file.into(),
        line: error.line() as u64,
        column: error.column() as u64,
        field: String::new(),
        message: format!("not JSON: {message}"),
    }
}

fn yaml_error(file: &str, error: &serde_saphyr::Error) -> SpecError {
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    let whole = error
        .without_snippet()
        .render_with_formatter(&UserMessageFormatter);
    let place = format!(" at line {line}, column {column}");
    let message = whole.replace(&place, "");
    SpecError {
        file: file.into(),
        line,
        column,
        field: String::new(),
        message,
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
            name: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Whole(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        i128::try_from(value)
            .map(Value::Whole)
            .map_err(|_| E::custom("a number that is too large"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Value, E> {
        Err(E::custom("binary values have no use here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element::<Node>()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = map.next_key::<Key>()? {
            let node = map.next_value::<Node>()?;
            fields.push((key, node));
        }
        Ok(Value::Map(fields))
    }
}
