//! The OpenAPI document: what the handlers say of themselves, gathered from the list of routes, and what all of them have in
//! common: the key, the idempotency header of a POST, the refusals. It is the same for every gateway of this version.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::body::Bytes;
use http::Method;
use serde_json::{Map, Value, json};
use utoipa::openapi::PathItem;
use utoipa::openapi::path::Operation;
use utoipa::{PartialSchema, ToSchema};

use crate::admin::refusal::ErrorBody;
use crate::admin::route;

/// Refusals with the statuses that they have in common: status, name, what it says.
const REFUSALS: [(&str, &str, &str); 11] = [
    ("400", "BadRequest", "A value, a parameter or the JSON itself can't be used; `field` says which."),
    ("401", "Unauthorized", "No admin key, or a wrong one."),
    ("403", "Forbidden", "A tenant's credential, or a browser's page of another origin."),
    ("404", "NotFound", "What the path names does not exist."),
    ("409", "Conflict", "It exists already, is in another state, or the answer of this Idempotency-Key is lost."),
    ("413", "TooLarge", "The body is larger than this route takes."),
    ("415", "NotJson", "The body is not declared as JSON."),
    ("422", "KeyReused", "The Idempotency-Key came with another request before."),
    (
        "429",
        "TooManyWrongKeys",
        "Too many wrong admin keys came from this address; `retry-after` says when to try again.",
    ),
    ("500", "Internal", "The gateway failed; the cause is in its log under this answer's x-request-id."),
    (
        "503",
        "Unavailable",
        "The store can't answer now, and nothing was changed; `retry-after` says when to try again.",
    ),
];

const SCHEMAS: &str = "#/components/schemas/";
/// The schema of an amount of money as it is answered, and as it may be sent.
const AMOUNT: &str = "NanoUsd";
const AMOUNT_SENT: &str = "NanoUsdSent";

/// The document as JSON, made once.
#[must_use]
pub fn openapi() -> Bytes {
    static JSON: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(format!("{:#}\n", document())));
    JSON.clone()
}

/// The operations of a path by their methods.
pub(super) fn operations(item: &PathItem) -> Vec<(Method, &Operation)> {
    let all = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?))).collect()
}

/// The document.
pub(super) fn document() -> Value {
    let (mut paths, mut schemas, mut tags) = (Map::new(), Map::new(), Vec::new());
    let mut found = Vec::new();
    for (row_schemas, row_paths, _) in route::routes() {
        found.extend(row_schemas);
        for (path, item) in &row_paths.paths {
            let described = operations(item).into_iter().map(|(method, operation)| {
                let mut described = json!(operation);
                complete(&mut described, &method, path);
                tags.extend(described.pointer("/tags/0").cloned().filter(|tag| !tags.contains(tag)));
                (method.as_str().to_ascii_lowercase(), described)
            });
            paths.insert(path.clone(), Value::Object(described.collect()));
        }
    }
    found.push((ErrorBody::name().into_owned(), ErrorBody::schema()));
    ErrorBody::schemas(&mut found);
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    schemas.extend(found.into_iter().map(|(name, schema)| (name, json!(schema))));
    let mut schemas = merged(&schemas);
    let mut paths = Value::Object(paths);
    optional_bodies(&mut paths, &schemas);
    as_sent(&paths, &mut schemas);
    let responses = refusals();
    let used = reached(&[&paths, &responses], &schemas);
    if let Some(schemas) = schemas.as_object_mut() {
        schemas.retain(|name, _| used.contains(name));
    }
    for part in [&mut schemas, &mut paths] {
        readable(part);
        unsigned(part);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "OpenClawMU admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Tenants, tokens, prices, usage and the gateway itself, for its operator",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags.into_iter().map(|tag| json!({"name": tag})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "headers": headers(),
            "parameters": {"IdempotencyKey": idempotency_key()},
            "securitySchemes": {"admin_key": {
                "type": "http",
                "scheme": "bearer",
                "description": "An admin key: of the configuration, else the one in admin.key of the data directory",
            }},
        },
    })
}

/// Adds what the operation has in common with others of its kind.
fn complete(operation: &mut Value, method: &Method, path: &str) {
    let tag = operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or_default();
    let id = format!("{tag}_{}", operation.get("operationId").and_then(Value::as_str).unwrap_or_default());
    let Some(fields) = operation.as_object_mut() else { return };
    fields.insert("operationId".to_owned(), id.into());
    let has_body = fields.contains_key("requestBody");
    if method == Method::POST {
        let parameters = fields.entry("parameters").or_insert_with(|| json!([]));
        if let Some(parameters) = parameters.as_array_mut() {
            parameters.push(json!({"$ref": "#/components/parameters/IdempotencyKey"}));
        }
    }
    let has_parameters = fields.get("parameters").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    let open = route::is_open(path);
    if !open {
        fields.insert("security".to_owned(), json!([{"admin_key": []}]));
    }
    let Some(responses) = fields.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, name, _) in REFUSALS {
        let common = match status {
            "400" => has_parameters || has_body,
            "404" => path.contains('{'),
            "413" | "415" => has_body,
            "409" | "422" => method == Method::POST,
            _ => !open,
        };
        // What a handler says of a status itself stands.
        if common && !responses.contains_key(status) {
            responses.insert(status.to_owned(), json!({"$ref": format!("#/components/responses/{name}")}));
        }
    }
    for response in responses.values_mut().filter_map(Value::as_object_mut) {
        if !response.contains_key("$ref") {
            let headers = response.entry("headers").or_insert_with(|| json!({}));
            if let Some(headers) = headers.as_object_mut() {
                headers.insert("x-request-id".to_owned(), json!({"$ref": "#/components/headers/RequestId"}));
            }
        }
    }
}

fn refusals() -> Value {
    let refusal = |status: &str, says: &str| {
        let mut headers = json!({"x-request-id": {"$ref": "#/components/headers/RequestId"}});
        if matches!(status, "429" | "503")
            && let Some(headers) = headers.as_object_mut()
        {
            headers.insert("retry-after".to_owned(), json!({"$ref": "#/components/headers/RetryAfter"}));
        }
        let content =
            json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{}", ErrorBody::name())}}});
        json!({"description": says, "headers": headers, "content": content})
    };
    REFUSALS.iter().map(|(status, name, says)| ((*name).to_owned(), refusal(status, says))).collect()
}

fn headers() -> Value {
    json!({
        "RequestId": {
            "description": "The id under which the log speaks of this call",
            "required": true,
            "schema": {"type": "string", "pattern": "^req_[0-9a-f]{32}$"},
        },
        "RetryAfter": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 0}},
    })
}

fn idempotency_key() -> Value {
    json!({
        "name": "Idempotency-Key",
        "in": "header",
        "required": false,
        "description": "Makes the call happen once: with the same key and request the first answer is repeated for 24 hours; with another request the key is refused",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    })
}

/// The schemas with each `allOf` of objects as one object: a generated client has one type for it, and a schema that
/// refuses unknown fields knows those of all its parts.
fn merged(schemas: &Map<String, Value>) -> Value {
    let names = schemas.keys().map(|name| {
        let mut whole = Map::new();
        gather(schemas, name, &mut whole);
        let mut whole = Value::Object(whole);
        // A page of rows has the row's schema in it: once more, instead of by its name.
        if let Some((of, part)) = name.split_once('_').and_then(|(_, of)| Some((of, schemas.get(of)?))) {
            name_part(&mut whole, part, of);
        }
        (name.clone(), whole)
    });
    Value::Object(names.collect())
}

/// Refers to the schema `name` wherever `part`, which is that schema, stands in `value`.
fn name_part(value: &mut Value, part: &Value, name: &str) {
    if value == part {
        *value = json!({"$ref": format!("{SCHEMAS}{name}")});
        return;
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| name_part(value, part, name)),
        Value::Array(items) => items.iter_mut().for_each(|value| name_part(value, part, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn gather(schemas: &Map<String, Value>, name: &str, whole: &mut Map<String, Value>) {
    let Some(schema) = schemas.get(name).and_then(Value::as_object) else { return };
    let Some(parts) = schema.get("allOf").and_then(Value::as_array) else {
        whole.extend(schema.clone());
        return;
    };
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in parts {
        let mut of_part = Map::new();
        match part.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
            Some(other) => {
                gather(schemas, other, &mut of_part);
                // Whether other fields may be there is for the whole to say, and so is what it is.
                of_part.retain(|field, _| matches!(field.as_str(), "properties" | "required"));
            }
            None => of_part.extend(part.as_object().cloned().unwrap_or_default()),
        }
        if let Some(Value::Object(more)) = of_part.remove("properties") {
            properties.extend(more);
        }
        if let Some(Value::Array(more)) = of_part.remove("required") {
            required.extend(more);
        }
        whole.extend(of_part);
    }
    whole.extend(schema.clone());
    whole.remove("allOf");
    whole.insert("type".to_owned(), "object".into());
    whole.insert("properties".to_owned(), properties.into());
    if !required.is_empty() {
        whole.insert("required".to_owned(), required.into());
    }
}

/// What holds for all that is sent: an unknown field is refused, and an amount of money may be a whole number too, while it
/// is always answered as a string.
fn as_sent(paths: &Value, schemas: &mut Value) {
    let items = paths.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_object);
    let bodies: Vec<&Value> =
        items.flat_map(Map::values).filter_map(|operation| operation.get("requestBody")).collect();
    let sent = reached(&bodies, schemas);
    let Some(schemas) = schemas.as_object_mut() else { return };
    let Some(mut amount) = schemas.get(AMOUNT).cloned() else { return };
    if let Some(amount) = amount.as_object_mut() {
        amount.insert("type".to_owned(), json!(["string", "integer"]));
    }
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| sent.contains(*name)) {
        refer(schema, AMOUNT, AMOUNT_SENT);
        if let Some(schema) = schema.as_object_mut().filter(|schema| schema.contains_key("properties")) {
            schema.entry("additionalProperties").or_insert(Value::Bool(false));
        }
    }
    schemas.insert(AMOUNT_SENT.to_owned(), amount);
}

/// The names of all schemas that `roots` lead to.
fn reached(roots: &[&Value], schemas: &Value) -> BTreeSet<String> {
    let (mut reached, mut unseen) = (BTreeSet::new(), Vec::new());
    roots.iter().for_each(|root| each_ref(root, &mut unseen));
    while let Some(name) = unseen.pop() {
        if let Some(schema) = schemas.get(&name).filter(|_| reached.insert(name.clone())) {
            each_ref(schema, &mut unseen);
        }
    }
    reached
}

/// The names of the schemas that `value` refers to.
fn each_ref(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix(SCHEMAS));
            found.extend(name.map(str::to_owned));
            fields.values().for_each(|value| each_ref(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| each_ref(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Refers to the schema `to` wherever `value` refers to `from`.
fn refer(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "$ref" && value.as_str().and_then(|path| path.strip_prefix(SCHEMAS)) == Some(from) {
                    *value = format!("{SCHEMAS}{to}").into();
                } else {
                    refer(value, from, to);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|value| refer(value, from, to)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A body all of whose fields may be absent may be absent itself.
fn optional_bodies(paths: &mut Value, schemas: &Value) {
    let items = paths.as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    for operation in items.filter_map(Value::as_object_mut).flat_map(|item| item.values_mut()) {
        let Some(body) = operation.get_mut("requestBody") else { continue };
        let named = body.pointer("/content/application~1json/schema/$ref").and_then(Value::as_str);
        let schema = named.and_then(|path| schemas.get(path.rsplit('/').next().unwrap_or_default()));
        let needed = schema.is_none_or(|schema| schema.get("required").is_some());
        if let Some(body) = body.as_object_mut() {
            body.insert("required".to_owned(), needed.into());
        }
    }
}

/// A count has no sign and goes as far as it can be counted; the formats of OpenAPI are all signed and end at half of that.
fn unsigned(value: &mut Value) {
    if let Some(fields) = value.as_object_mut() {
        let is_count = fields.get("minimum").and_then(Value::as_u64) == Some(0);
        match fields.get("format").and_then(Value::as_str).filter(|_| is_count) {
            Some("int32") => drop(fields.insert("maximum".to_owned(), u32::MAX.into())),
            Some("int64") => drop(fields.insert("maximum".to_owned(), u64::MAX.into())),
            Some(_) | None => return fields.values_mut().for_each(unsigned),
        }
        fields.remove("format");
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(unsigned);
    }
}

/// Takes what is only for readers of the code out of its words.
fn readable(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Value::String(text) = value
                    && matches!(name.as_str(), "description" | "summary")
                {
                    *text = text.replace("[`crate::", "`").replace("[`", "`").replace("`]", "`");
                } else {
                    readable(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(readable),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
