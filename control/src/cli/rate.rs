//! `rates list|import|show`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use http::Method;
use openclawmu_store::UnixMs;
use serde_json::{Map, Value};

use crate::cli::answer::{field, shown};
use crate::cli::client::{Call, Client};
use crate::cli::table::{Table, fields};

use crate::cli::value;

/// What the operator can do with prices.
#[derive(Debug, Subcommand)]
pub enum RateCommand {
    /// List the prices in effect, in USD per million tokens
    List,
    /// Add a version of the prices from a rate card's JSON file
    Import {
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
}

pub(crate) async fn execute(command: &RateCommand, client: &Client, json: bool) -> anyhow::Result<String> {
    match command {
        RateCommand::List => list(client, json).await,
        RateCommand::Import { file } => import(client, file, json).await,
        RateCommand::Show { model, at } => show(client, model, *at, json).await,
    }
}

async fn list(client: &Client, json: bool) -> anyhow::Result<String> {
    let answer = client.text(Call::get(&["rates"], &[])).await?;
    if json {
        return Ok(format!("{answer}\n"));
    }
    let answer: Value = serde_json::from_str(&answer)?;
    let mut table = Table::new(&["MODEL", ">INPUT", ">OUTPUT", ">CACHE READ", ">CACHE WRITE", ">VERSION"]);
    for (model, price) in field(&answer, "models").as_object().unwrap_or(&Map::new()) {
        let cell = |name: &str| price.get(name).map_or_else(|| "-".to_owned(), short);
        table.row([
            model.clone(),
            cell("input"),
            cell("output"),
            cell("cache_read"),
            cell("cache_write"),
            cell("rate_card"),
        ]);
    }
    Ok(table.render("no prices yet: import some with `openclawmu rates import FILE`"))
}

async fn import(client: &Client, file: &PathBuf, json: bool) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
    let card: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))?;
    let answer = client.text(Call::send(Method::PUT, &["rates"], card)).await?;
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
        ("model", Some(shown(field(&answer, "model")))),
        ("at", Some(shown(field(&answer, "at")))),
        ("version", Some(shown(field(&answer, "rate_card")))),
    ];
    let empty = Map::new();
    let prices = field(&answer, "price").as_object().unwrap_or(&empty);
    lines.extend(prices.iter().map(|(name, value)| (name.as_str(), Some(short(value)))));
    Ok(format!("{}prices are USD per million tokens\n", fields(&lines)))
}

/// A price without the zeros behind its last digit, but with at least two decimals.
fn short(value: &Value) -> String {
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
