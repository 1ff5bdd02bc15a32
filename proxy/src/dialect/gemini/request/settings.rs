//! A request's tools, and how its answer is to be made, as the form.

use serde_json::Number;

use super::super::members::{Field, Members};
use super::super::schema::json_schema;
use crate::dialect::form::{Effort, OutputForm, Reasoning, Request, Tool, ToolChoice};
use crate::refusal::Refusal;

/// The name of a schema that has none in this dialect.
pub(super) const SCHEMA_NAME: &str = "response";
/// The largest cap on an answer.
pub(super) const LARGEST: u32 = u32::MAX >> 1;
/// The most answers that one request may ask for.
pub(super) const MAX_CHOICES: u32 = 128;

/// Reads `tools` and `toolConfig`.
pub(super) fn tools(
    tools: Option<&Field<'_>>,
    config: Option<&Field<'_>>,
    request: &mut Request,
) -> Result<(), Refusal> {
    for tool in tools.map(|tools| tools.list()).transpose()?.unwrap_or_default() {
        let mut members = tool.object()?;
        if let Some(list) = members.take("functionDeclarations")? {
            for declaration in list.list()? {
                request.tools.push(function(&declaration)?);
            }
        }
        for name in [
            "googleSearch",
            "googleSearchRetrieval",
            "googleMaps",
            "enterpriseWebSearch",
            "codeExecution",
            "urlContext",
            "fileSearch",
            "computerUse",
            "mcpServers",
            "retrieval",
            "parallelAiSearch",
            "exaAiSearch",
        ] {
            members.refuse(name, "is a tool that runs at Google alone")?;
        }
        members.end()?;
    }
    let Some(config) = config else { return Ok(()) };
    let mut members = config.object()?;
    members.refuse("retrievalConfig", "is for tools that run at Google alone")?;
    if let Some(calling) = members.take("functionCallingConfig")? {
        choice(&calling, request)?;
    }
    members.end()
}

fn function(field: &Field<'_>) -> Result<Tool, Refusal> {
    let mut members = field.object()?;
    let name = members.take("name")?.ok_or_else(|| field.refuse("must have `name`"))?.string()?;
    let description = members.take("description")?.map(|text| text.string()).transpose()?;
    let googles = members.take("parameters")?;
    let plain = members.take("parametersJsonSchema")?;
    let parameters = match (googles, plain) {
        (Some(googles), Some(_)) => return Err(googles.refuse("is given beside `parametersJsonSchema`")),
        (Some(googles), None) => {
            googles.raw_object()?;
            json_schema(googles.value()?)
        }
        (None, Some(plain)) => {
            plain.raw_object()?;
            plain.value()?
        }
        (None, None) => serde_json::json!({"type": "object", "properties": {}}),
    };
    members.end()?;
    Ok(Tool { name, description, parameters, strict: None, cache: None })
}

/// `VALIDATED` keeps the calls to their schemas, which is what `strict` asks for. Of several functions that may be called,
/// the others are left out: then any of those that are left must be.
fn choice(field: &Field<'_>, request: &mut Request) -> Result<(), Refusal> {
    let mut members = field.object()?;
    members.refuse("streamFunctionCallArguments", "is not supported")?;
    let mode = members.take("mode")?;
    let allowed = members.take("allowedFunctionNames")?;
    members.end()?;
    let names = allowed.as_ref().map(|allowed| allowed.strings()).transpose()?.unwrap_or_default();
    let name = mode.as_ref().map(|mode| mode.string()).transpose()?;
    let forced = match name.as_deref() {
        None | Some("MODE_UNSPECIFIED") => false,
        Some("AUTO") => {
            request.tool_choice = Some(ToolChoice::Auto);
            false
        }
        Some("NONE") => {
            request.tool_choice = Some(ToolChoice::None);
            false
        }
        Some("VALIDATED") => {
            request.tool_choice = Some(ToolChoice::Auto);
            request.tools.iter_mut().for_each(|tool| tool.strict = Some(true));
            true
        }
        Some("ANY") => {
            request.tool_choice = Some(ToolChoice::Required);
            true
        }
        Some(_) => {
            return Err(mode.map_or_else(
                || field.refuse("has no such mode"),
                |mode| mode.refuse("must be AUTO, ANY, NONE or VALIDATED"),
            ));
        }
    };
    let Some(allowed) = allowed.filter(|_| !names.is_empty()) else { return Ok(()) };
    if !forced {
        return Err(allowed.refuse("is for the modes ANY and VALIDATED"));
    }
    if let Some(unknown) = names.iter().find(|name| !request.tools.iter().any(|tool| tool.name == **name)) {
        return Err(allowed.refuse(&format!("names the unknown function {unknown:?}")));
    }
    match names.as_slice() {
        [only] if name.as_deref() == Some("ANY") => request.tool_choice = Some(ToolChoice::Tool(only.clone())),
        _ => request.tools.retain(|tool| names.contains(&tool.name)),
    }
    Ok(())
}

/// Reads `generationConfig`.
pub(super) fn generation(field: &Field<'_>, request: &mut Request) -> Result<(), Refusal> {
    let mut members = field.object()?;
    let mut number = |name| members.take(name)?.map(|field| field.number()).transpose();
    request.sampling.temperature = number("temperature")?;
    request.sampling.top_p = number("topP")?;
    request.sampling.top_k = number("topK")?.map(whole);
    request.sampling.seed = number("seed")?.map(whole);
    request.sampling.presence_penalty = number("presencePenalty")?;
    request.sampling.frequency_penalty = number("frequencyPenalty")?;
    if let Some(cap) = members.take("maxOutputTokens")? {
        request.max_output = Some(cap.count(1, LARGEST)?);
    }
    if let Some(choices) = members.take("candidateCount")? {
        request.choices = choices.count(1, MAX_CHOICES)?;
    }
    if let Some(stop) = members.take("stopSequences")? {
        request.sampling.stop = stop.strings()?;
    }
    let wanted = members.take("responseLogprobs")?.map(|wanted| wanted.boolean()).transpose()?.unwrap_or(false);
    if let Some(count) = members.take("logprobs")? {
        let candidates = count.count(0, 20)?;
        if !wanted {
            return Err(count.refuse("needs `responseLogprobs`"));
        }
        request.sampling.logprobs = Some(candidates);
    } else if wanted {
        request.sampling.logprobs = Some(0);
    }
    output(&mut members, request)?;
    if let Some(thinking) = members.take("thinkingConfig")? {
        request.reasoning = Some(reasoning(&thinking)?);
    }
    for name in [
        "speechConfig",
        "imageConfig",
        "routingConfig",
        "modelSelectionConfig",
        "audioTimestamp",
        "audioTranscriptionConfig",
        "enableEnhancedCivicAnswers",
        "enableAffectiveDialog",
        "modelConfig",
        "translationConfig",
    ] {
        members.refuse(name, "is not supported for this model")?;
    }
    members.end()
}

/// Google's own client writes `topK` with a fraction of zero, which other providers take for no whole number.
fn whole(number: Number) -> Number {
    let text = number.to_string();
    let digits = text.strip_suffix(".0").and_then(|digits| digits.parse::<i64>().ok());
    digits.map_or(number, Number::from)
}

fn output(members: &mut Members<'_>, request: &mut Request) -> Result<(), Refusal> {
    if let Some(modalities) = members.take("responseModalities")?
        && !modalities.strings()?.iter().all(|modality| modality.eq_ignore_ascii_case("text"))
    {
        return Err(modalities.refuse("must be TEXT for this model"));
    }
    let kind = members.take("responseMimeType")?;
    let name = kind.as_ref().map(|kind| kind.string()).transpose()?;
    let json = match (name.as_deref(), &kind) {
        (Some("application/json"), _) => true,
        (None | Some("" | "text/plain"), _) => false,
        (Some(_), Some(kind)) => return Err(kind.refuse("must be text/plain or application/json for this model")),
        (Some(_), None) => false,
    };
    let googles = members.take("responseSchema")?;
    let plain = members.take("responseJsonSchema")?;
    if let (Some(_), Some(plain)) = (&googles, &plain) {
        return Err(plain.refuse("is given beside `responseSchema`"));
    }
    let schema = match (googles, plain) {
        (Some(googles), _) => Some((json_schema(googles.value()?), googles)),
        (None, Some(plain)) => Some((plain.value()?, plain)),
        (None, None) => None,
    };
    request.output = match schema {
        Some((_, field)) if !json => return Err(field.refuse("needs `responseMimeType` application/json")),
        Some((schema, _)) => {
            OutputForm::Schema { name: SCHEMA_NAME.to_owned(), description: None, schema, strict: None }
        }
        None if json => OutputForm::Json,
        None => OutputForm::Text,
    };
    Ok(())
}

fn reasoning(field: &Field<'_>) -> Result<Reasoning, Refusal> {
    let mut members = field.object()?;
    let shown = members.take("includeThoughts")?.map(|shown| shown.boolean()).transpose()?;
    let budget = members.take("thinkingBudget")?;
    let level = members.take("thinkingLevel")?;
    members.end()?;
    let mut reasoning = Reasoning { shown, ..Reasoning::default() };
    if let (Some(_), Some(level)) = (&budget, &level) {
        return Err(level.refuse("is given beside `thinkingBudget`"));
    }
    match budget {
        // The model decides by itself, which is what no budget says.
        Some(budget) if budget.raw == "-1" => {}
        Some(budget) => match budget.count(0, LARGEST)? {
            0 => reasoning.effort = Some(Effort::None),
            tokens => reasoning.budget_tokens = Some(tokens),
        },
        None => {}
    }
    if let Some(level) = level {
        reasoning.effort = match level.string()?.to_ascii_uppercase().as_str() {
            "THINKING_LEVEL_UNSPECIFIED" => None,
            "MINIMAL" => Some(Effort::Minimal),
            "LOW" => Some(Effort::Low),
            "MEDIUM" => Some(Effort::Medium),
            "HIGH" => Some(Effort::High),
            "XHIGH" => Some(Effort::Higher),
            _ => return Err(level.refuse("must be MINIMAL, LOW, MEDIUM, HIGH or XHIGH")),
        };
    }
    Ok(reasoning)
}
