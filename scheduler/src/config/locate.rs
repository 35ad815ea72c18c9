//! Where in a TOML text a field is, so that each fault names its line.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;

/// A text that is TOML, with where its fields are.
pub(super) struct Locate<'a> {
    text: &'a str,
    path: &'a Path,
    fields: Vec<Field>,
}

/// A key, or a value.
struct Field {
    /// With those it is in.
    name: String,
    /// Its bytes in the text.
    span: Range<usize>,
    is_table: bool,
}

impl<'a> Locate<'a> {
    pub(super) fn new(text: &'a str, path: &'a Path) -> Result<Self, ConfigError> {
        let mut locate = Locate {
            text,
            path,
            fields: Vec::new(),
        };
        match DeTable::parse(text) {
            Ok(table) => {
                walk(table.get_ref(), "", &mut locate.fields);
                Ok(locate)
            }
            Err(error) => {
                let line = locate.line(error.span().map_or(0, |span| span.start));
                Err(locate.at(line, "syntax".to_owned(), error.message().to_owned()))
            }
        }
    }

    /// A fault of a field by its name; if it is not there, of the nearest that is and would hold it.
    pub(super) fn error(&self, field: &str, message: String) -> ConfigError {
        let found = |name: &str| {
            self.fields
                .iter()
                .find(|known| known.name == name)
                .map(|known| known.span.start)
        };
        let mut name = field;
        loop {
            if let Some(start) = found(name) {
                return self.at(self.line(start), field.to_owned(), message);
            }
            match name.rfind(['.', '[']) {
                Some(end) => name = &name[..end],
                None => return self.at(1, field.to_owned(), message),
            }
        }
    }

    /// A fault that serde found.
    pub(super) fn serde(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        // What is missing has no place of its own, only a table it should be in.
        let missing = error
            .message()
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        let holds = |field: &&Field| {
            let within = field.span.start <= span.start && span.end <= field.span.end;
            within && (field.is_table || missing.is_none())
        };
        let owner = self
            .fields
            .iter()
            .filter(holds)
            .min_by_key(|field| field.span.len());
        let owner = owner.map_or("", |field| &field.name);
        let field = match (owner, missing) {
            ("", None) => "file".to_owned(),
            ("", Some(name)) => name.to_owned(),
            (owner, None) => owner.to_owned(),
            (owner, Some(name)) => format!("{owner}.{name}"),
        };
        let message = match missing {
            Some(_) => "is missing; add it".to_owned(),
            None => error.message().to_owned(),
        };
        self.at(self.line(span.start), field, message)
    }

    fn line(&self, offset: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(offset)
            .filter(|byte| *byte == b'\n')
            .count()
    }

    fn at(&self, line: usize, field: String, message: String) -> ConfigError {
        ConfigError {
            file: self.path.to_owned(),
            line,
            field,
            message,
        }
    }
}

fn walk(table: &DeTable<'_>, prefix: &str, fields: &mut Vec<Field>) {
    for (key, value) in table {
        let name = match prefix {
            "" => key.get_ref().to_string(),
            _ => format!("{prefix}.{}", key.get_ref()),
        };
        // An unknown field is reported at its key.
        fields.push(Field {
            name: name.clone(),
            span: key.span(),
            is_table: false,
        });
        walk_value(value, name, fields);
    }
}

fn walk_value(value: &Spanned<DeValue<'_>>, name: String, fields: &mut Vec<Field>) {
    let is_table = matches!(value.get_ref(), DeValue::Table(_));
    fields.push(Field {
        name: name.clone(),
        span: value.span(),
        is_table,
    });
    match value.get_ref() {
        DeValue::Table(table) => walk(table, &name, fields),
        DeValue::Array(array) => {
            for (at, item) in array.iter().enumerate() {
                walk_value(item, format!("{name}[{at}]"), fields);
            }
        }
        _ => {}
    }
}
