//! A client's body as the form. Neither the model nor whether it streams stands there: the caller knows both from the path.
//!
//! What only Google can do is refused by name. Safety settings are no part of any other provider's API: those that ask for
//! no more than Google does by itself are left out, as the other provider's own client would have none; those that ask for
//! more can't be kept and are refused.

use super::super::members::{Field, Members};
use super::{conversation, settings};
use crate::dialect::form::Request;
use crate::refusal::Refusal;

/// Thresholds that ask for no more than the default.
const LENIENT: [&str; 4] = ["HARM_BLOCK_THRESHOLD_UNSPECIFIED", "OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH"];
/// Tiers that cost what the rate card states.
const TIERS: [&str; 2] = ["unspecified", "standard"];

/// Reads a request in full.
///
/// # Errors
/// 400 that names the field which can't be read or has no place in the form.
pub(crate) fn parse(body: &str) -> Result<Request, Refusal> {
    let mut body = Members::read(body, String::new())?;
    let mut request = Request::default();
    if let Some(model) = body.take("model")? {
        let name = model.string()?;
        request.model = name.strip_prefix("models/").map_or(name.clone(), str::to_owned);
    }
    body.refuse("cachedContent", "is not supported: what a cached content costs is not metered")?;
    body.refuse("continuationToken", "is not supported for this model")?;
    if let Some(tier) = body.take("serviceTier")? {
        let name = tier.string()?.to_ascii_lowercase();
        if !TIERS.contains(&name.as_str()) {
            return Err(tier.refuse("names a service tier that is not priced by the rate card"));
        }
    }
    if let Some(safety) = body.take("safetySettings")? {
        safety.list()?.iter().try_for_each(check_safety)?;
    }
    if let Some(labels) = body.take("labels")? {
        request.metadata = serde_json::from_str(labels.raw).map_err(|_| labels.refuse("must be an object"))?;
    }
    if let Some(system) = body.take("systemInstruction")? {
        request.system = conversation::system(&system)?;
    }
    let contents = body.take("contents")?;
    let contents = contents.ok_or_else(|| Refusal::bad("contents", "`contents` must be a list of contents."))?;
    request.turns = conversation::turns(&contents)?;
    let tools = body.take("tools")?;
    let config = body.take("toolConfig")?;
    settings::tools(tools.as_ref(), config.as_ref(), &mut request)?;
    if let Some(config) = body.take("generationConfig")? {
        settings::generation(&config, &mut request)?;
    }
    body.end()?;
    Ok(request)
}

fn check_safety(setting: &Field<'_>) -> Result<(), Refusal> {
    let mut members = setting.object()?;
    if let Some(category) = members.take("category")? {
        category.string()?;
    }
    if let Some(threshold) = members.take("threshold")? {
        let name = threshold.string()?;
        if !LENIENT.contains(&name.as_str()) {
            return Err(threshold.refuse("asks for a filter that this model's provider does not have"));
        }
    }
    members.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn what_can_not_be_read_or_kept_is_named() {
        let content = r#""contents":[{"parts":[{"text":"x"}]}]"#;
        for (body, param) in [
            ("{}".to_owned(), "contents"),
            (r#"{"contents":[]}"#.to_owned(), "contents"),
            (r#"{"contents":"x"}"#.to_owned(), "contents"),
            (r#"{"contents":[{"role":"system","parts":[]}]}"#.to_owned(), "contents[0].role"),
            (r#"{"contents":[{"parts":[{}]}]}"#.to_owned(), "contents[0].parts[0]"),
            (r#"{"contents":[{"parts":[{"text":1}]}]}"#.to_owned(), "contents[0].parts[0].text"),
            (r#"{"contents":[{"parts":[{"text":"a","inlineData":{}}]}]}"#.to_owned(), "contents[0].parts[0]"),
            (
                r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"no base64"}}]}]}"#.to_owned(),
                "contents[0].parts[0].inlineData.data",
            ),
            (
                r#"{"contents":[{"parts":[{"inlineData":{"mimeType":"video/mp4","data":""}}]}]}"#.to_owned(),
                "contents[0].parts[0].inlineData.mimeType",
            ),
            (r#"{"contents":[{"parts":[{"executableCode":{}}]}]}"#.to_owned(), "contents[0].parts[0].executableCode"),
            (
                r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{}}}]}]}"#.to_owned(),
                "contents[0].parts[0].functionResponse",
            ),
            (
                r#"{"contents":[{"parts":[{"functionCall":{"name":"f","args":[]}}]}]}"#.to_owned(),
                "contents[0].parts[0].functionCall.args",
            ),
            (format!(r#"{{{content},"foo":1}}"#), "foo"),
            (format!(r#"{{{content},"cached_content":"c"}}"#), "cachedContent"),
            (format!(r#"{{{content},"generationConfig":{{"topK":1,"top_k":1}}}}"#), "generationConfig.topK"),
            (format!(r#"{{{content},"generationConfig":{{"temperature":"1"}}}}"#), "generationConfig.temperature"),
            (
                format!(r#"{{{content},"generationConfig":{{"maxOutputTokens":1.5}}}}"#),
                "generationConfig.maxOutputTokens",
            ),
            (
                format!(r#"{{{content},"generationConfig":{{"responseSchema":{{}}}}}}"#),
                "generationConfig.responseSchema",
            ),
            (
                format!(r#"{{{content},"generationConfig":{{"responseModalities":["TEXT","IMAGE"]}}}}"#),
                "generationConfig.responseModalities",
            ),
            (
                format!(
                    r#"{{{content},"generationConfig":{{"thinkingConfig":{{"thinkingBudget":5,"thinkingLevel":"LOW"}}}}}}"#
                ),
                "generationConfig.thinkingConfig.thinkingLevel",
            ),
            (format!(r#"{{{content},"generationConfig":{{"logprobs":5}}}}"#), "generationConfig.logprobs"),
            (format!(r#"{{{content},"tools":[{{"googleSearch":{{}}}}]}}"#), "tools[0].googleSearch"),
            (
                format!(
                    r#"{{{content},"tools":[{{"functionDeclarations":[{{"name":"f","parameters":{{}},"parametersJsonSchema":{{}}}}]}}]}}"#
                ),
                "tools[0].functionDeclarations[0].parameters",
            ),
            (
                format!(
                    r#"{{{content},"toolConfig":{{"functionCallingConfig":{{"mode":"ANY","allowedFunctionNames":["g"]}}}}}}"#
                ),
                "toolConfig.functionCallingConfig.allowedFunctionNames",
            ),
            (
                format!(r#"{{{content},"toolConfig":{{"functionCallingConfig":{{"mode":"SOME"}}}}}}"#),
                "toolConfig.functionCallingConfig.mode",
            ),
            (
                format!(r#"{{{content},"safetySettings":[{{"category":"X","threshold":"BLOCK_LOW_AND_ABOVE"}}]}}"#),
                "safetySettings[0].threshold",
            ),
            (format!(r#"{{{content},"serviceTier":"flex"}}"#), "serviceTier"),
        ] {
            let told = parse(&body).expect_err(&body).told();
            assert_eq!((told.status, told.param.as_deref()), (400, Some(param)), "{body}");
        }
        assert_eq!(parse("{").unwrap_err().told().status, 400);
    }

    #[test]
    fn e_11_deep_json_is_400_wherever_it_stands() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for body in [
            deep.clone(),
            format!(r#"{{"contents":{deep}}}"#),
            format!(r#"{{"contents":[{{"parts":[{{"functionCall":{{"name":"f","args":{{"a":{deep}}}}}}}]}}]}}"#),
            format!(r#"{{"contents":[{{"parts":[{{"text":"x"}}]}}],"generationConfig":{{"responseSchema":{deep}}}}}"#),
        ] {
            assert_eq!(parse(&body).unwrap_err().told().status, 400);
            assert_eq!(super::super::read(&body).unwrap_err().told().status, 400);
        }
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_fraction_of_zero() {
        let body = r#"{"contents":[{"parts":[{"text":"x"}]}],"generationConfig":{"topK":40.0,"temperature":1.0}}"#;
        let sampling = parse(body).unwrap().sampling;
        assert_eq!(sampling.top_k.unwrap().to_string(), "40");
        assert_eq!(sampling.temperature.unwrap().to_string(), "1.0");
    }

    #[test]
    fn several_allowed_functions_are_all_that_is_left() {
        let body = r#"{"contents":[{"parts":[{"text":"x"}]}],"tools":[{"functionDeclarations":[{"name":"a"},{"name":"b"},{"name":"c"}]}],
            "toolConfig":{"functionCallingConfig":{"mode":"ANY","allowedFunctionNames":["a","c"]}}}"#;
        let request = parse(body).unwrap();
        let names: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
    }
}
