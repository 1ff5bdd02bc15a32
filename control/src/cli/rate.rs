//! `rates list|import|put|show|history`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use http::Method;
use openclawmu_store::UnixMs;
use serde_json::{Map, Value, json};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::rate_import::{self, ImportFlags, json_file};
use crate::cli::table::{Table, fields};
use crate::cli::value;

/// Versions asked for at once: each may be large.
const PAGE: &str = "10";
/// The columns of a list.
const COLUMNS: [&str; 4] = ["input", "output", "cache_read", "cache_write"];
/// What a price states besides prices, and where it comes from.
const NO_PRICES: [&str; 6] =
    ["context_tokens", "max_output_tokens", "tokenizer", "image_tokens", "rate_card", "source"];

/// What the operator can do with prices.
#[derive(Debug, Subcommand)]
pub enum RateCommand {
    /// List the prices in effect, in USD per million tokens
    List,
    /// Import a price list: LiteLLM's public map or a rate card; your own prices stay as they are
    Import {
        /// The file: LiteLLM's model_prices_and_context_window.json, or as conf/rates.json
        file: PathBuf,
        /// How to import it
        #[command(flatten)]
        flags: ImportFlags,
    },
    /// Add a version with your own prices; imports leave what it lists as it is
    Put {
        /// The file, as conf/rates.json
        file: PathBuf,
    },
    /// Show what a model costs
    Show {
        /// The model
        model: String,
        /// At which instant, such as 2026-11-01T00:00:00Z; now when absent
        #[arg(long, value_parser = value::instant, value_name = "TIME")]
        at: Option<UnixMs>,
    },
    /// List the versions of the prices
    History,
}

pub(crate) async fn execute(command: &RateCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        RateCommand::List => list(client, json).await,
        RateCommand::Import { file, flags } => rate_import::execute(client, file, flags, json).await,
        RateCommand::Put { file } => put(client, file, json).await,
        RateCommand::Show { model, at } => show(client, model, *at, json).await,
        RateCommand::History => history(client, json).await,
    }
}

async fn list(client: &Client, json: bool) -> anyhow::Result<String> {
    let answer = client.text(Call::get(&["rates"], &[])).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let mut table =
        Table::new(&["MODEL", ">INPUT", ">OUTPUT", ">CACHE READ", ">CACHE WRITE", ">VERSION", "SOURCE", "ALSO PRICED"]);
    for (model, price) in field(&answer, "models").as_object().unwrap_or(&Map::new()) {
        let cell = |name: &str| price.get(name).map_or_else(|| "-".to_owned(), short);
        let mut cells = vec![model.clone()];
        cells.extend(COLUMNS.map(cell));
        cells.extend([cell("rate_card"), cell("source"), also_priced(price)]);
        table.row(cells);
    }
    Ok(table.render("no prices yet: import some with `openclawmu rates import FILE`"))
}

/// The names of what a model is billed by besides the list's columns.
fn also_priced(price: &Value) -> String {
    let names = price.as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let others: Vec<&str> = names.filter(|name| !COLUMNS.contains(name) && !NO_PRICES.contains(name)).collect();
    others.join(" ")
}

async fn put(client: &Client, file: &Path, json: bool) -> anyhow::Result<String> {
    let answer = client.text(Call::send_text(Method::PUT, &["rates"], json_file(file)?)).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let card: Value = serde_json::from_str(&answer)?;
    let models = field(&card, "models").as_object().map_or(0, Map::len);
    Ok(format!(
        "version {} with {models} models, in effect from {}\n",
        shown(field(&card, "version")),
        shown(field(&card, "effective_from"))
    ))
}

async fn history(client: &Client, json: bool) -> anyhow::Result<String> {
    let mut versions: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut query = vec![("limit", PAGE)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let mut page = client.json(Call::get(&["rates", "history"], &query)).await?;
        if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
            versions.extend(data);
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    if json {
        return Ok(format!("{}\n", json!({"data": versions})));
    }
    let mut table = Table::new(&[">VERSION", "SOURCE", ">MODELS", "EFFECTIVE FROM", "CREATED"]);
    for version in &versions {
        let models = field(version, "models").as_object().map_or(0, Map::len);
        table.row([
            shown(field(version, "version")),
            shown(field(version, "source")),
            models.to_string(),
            shown(field(version, "effective_from")),
            shown(field(version, "created_at")),
        ]);
    }
    Ok(table.render("no prices yet: import some with `openclawmu rates import FILE`"))
}

async fn show(client: &Client, model: &str, at: Option<UnixMs>, json: bool) -> anyhow::Result<String> {
    let at = at.map(UnixMs::rfc3339);
    let mut query = vec![("model", model)];
    query.extend(at.as_deref().map(|at| ("at", at)));
    let answer = client.text(Call::get(&["rates"], &query)).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let mut lines = vec![
        ("model".to_owned(), shown(field(&answer, "model"))),
        ("at".to_owned(), shown(field(&answer, "at"))),
        ("version".to_owned(), shown(field(&answer, "rate_card"))),
        ("source".to_owned(), shown(field(&answer, "source"))),
    ];
    price_lines("", field(&answer, "price"), &mut lines);
    let lines: Vec<(&str, Option<String>)> =
        lines.iter().map(|(name, value)| (name.as_str(), Some(value.clone()))).collect();
    Ok(format!(
        "{}prices are USD per million tokens or characters, and USD for each image, second and request\n",
        fields(&lines)
    ))
}

/// A price line by line; those of a tier behind its name.
fn price_lines(before: &str, price: &Value, lines: &mut Vec<(String, String)>) {
    for (name, value) in price.as_object().unwrap_or(&Map::new()) {
        match value {
            Value::Object(_) => price_lines(&format!("{before}{name} "), value, lines),
            Value::Array(tiers) => {
                for tier in tiers {
                    let over = shown(field(tier, "context_over"));
                    price_lines(&format!("{before}over {over} "), tier, lines);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                if name != "context_over" {
                    lines.push((format!("{before}{name}"), short(value)));
                }
            }
        }
    }
}

/// A price without the zeros behind its last digit, but with at least two decimals.
pub(crate) fn short(value: &Value) -> String {
    let Some((whole, decimals)) = value.as_str().and_then(|text| text.split_once('.')) else {
        return shown(value);
    };
    let kept = decimals.trim_end_matches('0');
    format!("{whole}.{kept:0<2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prices_are_short_and_exact() {
        for (value, text) in [
            (json!("2.500000000"), "2.50"),
            (json!("0.018750000"), "0.01875"),
            (json!("15.000000000"), "15.00"),
            (json!(128_000), "128,000"),
        ] {
            assert_eq!(short(&value), text);
        }
    }
}
