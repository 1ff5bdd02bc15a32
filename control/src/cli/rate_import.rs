//! `rates import`: the difference that a price list makes, for people.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use clap::Args;
use http::Method;
use openclawmu_store::UnixMs;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::rate::short;
use crate::cli::table::Table;
use crate::cli::value;

/// The most rows of each table; `--json` has all.
const MAX_ROWS: usize = 50;

/// How to import a price list.
#[derive(Debug, Args)]
pub struct ImportFlags {
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
    /// From when on it counts, such as 2026-12-01; now when absent
    #[arg(long, value_parser = value::instant, value_name = "TIME")]
    effective_from: Option<UnixMs>,
    /// Replace your own prices too
    #[arg(long)]
    replace_overrides: bool,
    /// Only these models, such as gpt-5*,claude-opus-5
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    only: Vec<String>,
}

/// The text of a file that holds JSON.
pub(crate) fn json_file(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    serde_json::from_str::<IgnoredAny>(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    Ok(text)
}

pub(crate) async fn execute(client: &Client, file: &Path, flags: &ImportFlags, json: bool) -> anyhow::Result<String> {
    let prices = json_file(file)?;
    let mut options =
        json!({"dry_run": flags.dry_run, "replace_overrides": flags.replace_overrides, "only": flags.only});
    if let (Some(from), Some(options)) = (flags.effective_from, options.as_object_mut()) {
        options.insert("effective_from".to_owned(), from.rfc3339().into());
    }
    // The list is put in letter by letter: read and written again, its numbers might not be the same.
    let options = options.to_string();
    let body = format!("{},\"prices\":{prices}}}", options.strip_suffix('}').unwrap_or(&options));
    let answer = client.text(Call::send_text(Method::POST, &["rates", "import"], body)).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    Ok(told(&serde_json::from_str(&answer)?, flags.dry_run))
}

/// The whole answer for people.
fn told(answer: &Value, dry_run: bool) -> String {
    let mut text = String::new();
    for part in [
        added(answer),
        changed(answer),
        withdrawn(answer),
        kept(answer),
        rounded(answer),
        left_out(answer),
        skipped(answer),
    ] {
        if !part.is_empty() {
            text.push_str(&part);
            text.push('\n');
        }
    }
    let count = |name: &str| match field(answer, name) {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            other.as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
        }
    };
    text.push_str(&format!(
        "{} added, {} changed, {} withdrawn, {} unchanged, {} kept as you priced them, {} skipped\n",
        count("added"),
        count("changed"),
        count("withdrawn"),
        count("unchanged"),
        count("kept"),
        count("skipped")
    ));
    let card = field(answer, "rate_card");
    text.push_str(&match (dry_run, card.is_null()) {
        (true, _) => "a dry run: nothing was changed\n".to_owned(),
        (false, true) => "nothing to change: no version was added\n".to_owned(),
        (false, false) => format!(
            "version {} with {} models, in effect from {}\n",
            shown(field(card, "version")),
            shown(field(card, "models")),
            shown(field(card, "effective_from"))
        ),
    });
    text
}

/// A table of at most [`MAX_ROWS`] rows, and how many more there are.
fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let more = rows.len().saturating_sub(MAX_ROWS);
    let mut table = Table::new(headings);
    for row in rows.into_iter().take(MAX_ROWS) {
        table.row(row);
    }
    let mut text = table.render("");
    if more > 0 {
        text.push_str(&format!("... and {more} more; `--json` lists all\n"));
    }
    text
}

fn entries<'a>(answer: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    field(answer, name).as_object().into_iter().flat_map(Map::iter)
}

fn added(answer: &Value) -> String {
    let rows = entries(answer, "added").map(|(model, price)| {
        let cell = |name: &str| price.get(name).map_or_else(|| "-".to_owned(), short);
        vec![model.clone(), cell("input"), cell("output"), cell("cache_read"), cell("cache_write")]
    });
    table(&["ADDED", ">INPUT", ">OUTPUT", ">CACHE READ", ">CACHE WRITE"], rows.collect())
}

fn changed(answer: &Value) -> String {
    let mut rows = Vec::new();
    for (model, fields) in entries(answer, "changed") {
        for (name, values) in fields.as_object().into_iter().flat_map(Map::iter) {
            let cell = |which: &str| {
                Some(field(values, which)).filter(|value| !value.is_null()).map_or_else(|| "-".to_owned(), short)
            };
            rows.push(vec![model.clone(), name.clone(), cell("old"), cell("new")]);
        }
    }
    table(&["CHANGED", "FIELD", ">OLD", ">NEW"], rows)
}

fn withdrawn(answer: &Value) -> String {
    let names = field(answer, "withdrawn").as_array().into_iter().flatten();
    table(&["WITHDRAWN"], names.map(|name| vec![shown(name)]).collect())
}

fn kept(answer: &Value) -> String {
    let rows: Vec<Vec<String>> = entries(answer, "kept").map(|(model, by)| vec![model.clone(), shown(by)]).collect();
    let hint = if rows.is_empty() { "" } else { "`--replace-overrides` replaces them\n" };
    table(&["KEPT", "AS YOU PRICED"], rows) + hint
}

fn rounded(answer: &Value) -> String {
    let rows = field(answer, "rounded").as_array().into_iter().flatten().map(|row| {
        vec![
            shown(field(row, "model")),
            shown(field(row, "field")),
            shown(field(row, "stated")),
            short(field(row, "price")),
        ]
    });
    table(&["ROUNDED UP", "FIELD", ">STATED FOR ONE", ">HELD"], rows.collect())
}

fn left_out(answer: &Value) -> String {
    let rows = field(answer, "left_out").as_array().into_iter().flatten();
    let rows =
        rows.map(|row| vec![shown(field(row, "field")), shown(field(row, "models")), shown(field(row, "reason"))]);
    table(&["LEFT OUT", ">MODELS", "REASON"], rows.collect())
}

/// Skipped models by their reason, the commonest first.
fn skipped(answer: &Value) -> String {
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (model, reason) in entries(answer, "skipped") {
        reasons.entry(shown(reason)).or_default().push(model);
    }
    let mut reasons: Vec<(String, Vec<&str>)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, models)| std::cmp::Reverse(models.len()));
    let rows = reasons.into_iter().map(|(reason, models)| {
        let first = models.first().copied().unwrap_or_default().to_owned();
        vec![reason, models.len().to_string(), first]
    });
    table(&["SKIPPED", ">MODELS", "SUCH AS"], rows.collect())
}
