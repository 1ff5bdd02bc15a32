//! Google's own schemas (a subset of `OpenAPI` 3.0, with types in capitals) as JSON Schema, which everybody else speaks. The
//! way back is never gone: Google takes JSON Schema as well.

use serde_json::{Map, Value};

/// A schema as JSON Schema. What it says of `nullable`, types and counts is put in JSON Schema's words; all else stays.
pub(super) fn json_schema(schema: Value) -> Value {
    let Value::Object(members) = schema else { return schema };
    let mut out = Map::new();
    let mut nullable = false;
    for (key, value) in members {
        match key.as_str() {
            "nullable" => nullable = value == Value::Bool(true),
            "propertyOrdering" | "property_ordering" => {}
            "example" => drop(out.insert("examples".to_owned(), Value::Array(vec![value]))),
            "type" => drop(out.insert(key, kind(value))),
            "items" | "additionalProperties" | "additional_properties" => {
                drop(out.insert(camel(&key), json_schema(value)))
            }
            "properties" | "defs" | "$defs" => {
                drop(out.insert(if key == "defs" { "$defs".to_owned() } else { key }, each(value)))
            }
            "ref" => drop(out.insert("$ref".to_owned(), reference(value))),
            "anyOf" | "any_of" => drop(out.insert("anyOf".to_owned(), all(value))),
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" | "min_items"
            | "max_items" | "min_length" | "max_length" | "min_properties" | "max_properties" => {
                drop(out.insert(camel(&key), number(value)));
            }
            _ => drop(out.insert(key, value)),
        }
    }
    if nullable {
        allow_null(&mut out);
    }
    Value::Object(out)
}

fn each(value: Value) -> Value {
    let Value::Object(members) = value else { return value };
    members.into_iter().map(|(key, value)| (key, json_schema(value))).collect()
}

fn all(value: Value) -> Value {
    let Value::Array(items) = value else { return value };
    items.into_iter().map(json_schema).collect()
}

fn kind(value: Value) -> Value {
    value.as_str().map(str::to_ascii_lowercase).map_or(value, Value::String)
}

fn reference(value: Value) -> Value {
    value.as_str().map(|path| path.replacen("#/defs/", "#/$defs/", 1)).map_or(value, Value::String)
}

/// Google writes 64-bit counts as texts.
fn number(value: Value) -> Value {
    value.as_str().and_then(|text| text.parse::<u64>().ok()).map_or(value, Value::from)
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::String(name)) = schema.get("type") {
        let both = Value::from(vec![name.as_str(), "null"]);
        schema.insert("type".to_owned(), both);
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.push(Value::Null);
        }
    } else if let Some(Value::Array(options)) = schema.get_mut("anyOf") {
        options.push(serde_json::json!({"type": "null"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn googles_schema_becomes_json_schema() {
        let googles = json!({
            "type": "OBJECT", "propertyOrdering": ["a"], "required": ["a"],
            "properties": {
                "a": {"type": "STRING", "nullable": true, "enum": ["x", "y"], "maxLength": "5"},
                "type": {"type": "ARRAY", "items": {"type": "INTEGER", "minimum": 1}, "min_items": 2},
                "c": {"any_of": [{"type": "NUMBER"}, {"ref": "#/defs/D"}], "nullable": true}
            },
            "defs": {"D": {"type": "BOOLEAN", "example": true}}
        });
        let expected = json!({
            "type": "object", "required": ["a"],
            "properties": {
                "a": {"type": ["string", "null"], "enum": ["x", "y", null], "maxLength": 5},
                "type": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2},
                "c": {"anyOf": [{"type": "number"}, {"$ref": "#/$defs/D"}, {"type": "null"}]}
            },
            "$defs": {"D": {"type": "boolean", "examples": [true]}}
        });
        assert_eq!(json_schema(googles), expected);
    }
}
