//! What `aws` does with an answer before it prints it: a query, and one of its formats.

mod table;
mod text;
mod yaml;

use super::aws::{Ending, Usage, print, write};
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::borrow::Cow;
use zeroize::Zeroizing;

#[derive(Args, Clone, Default)]
pub struct OutputArgs {
    /// Print of the answer what this JMESPath expression finds
    #[arg(long, value_name = "EXPRESSION", global = true)]
    query: Option<String>,
    /// How the answer is printed
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "json", global = true)]
    output: Format,
    /// Of a list, so many entries at most; NextToken goes on from there
    #[arg(long, value_name = "N", global = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_items: Option<u64>,
    /// NextToken of the answer before
    #[arg(long, value_name = "TOKEN", global = true)]
    pub starting_token: Option<String>,
    /// Accepted: there is no pager
    #[arg(long, global = true)]
    no_cli_pager: bool,
    /// Accepted: there are no colours
    #[arg(long, global = true, value_parser = ["on", "off", "auto"])]
    color: Option<String>,
    /// The parameters, as JSON or file://PATH; options win over it
    #[arg(long, value_name = "JSON", global = true)]
    cli_input_json: Option<String>,
    /// Print the form of --cli-input-json for this operation, and do nothing
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "input", value_parser = ["input"], global = true)]
    generate_cli_skeleton: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    #[default]
    Json,
    Text,
    Table,
    Yaml,
}

/// A query that was compiled, and a format.
pub struct Output {
    query: Option<jmespath::Expression<'static>>,
    format: Format,
}

impl OutputArgs {
    /// Before anything is done, so that a wrong query changes nothing.
    pub fn compile(&self) -> Result<Output, Usage> {
        let query = self.query.as_deref().map(|text| {
            jmespath::compile(text).map_err(|error| {
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default().to_owned();
                Usage(format!("Bad value for --query {text}: {why}"))
            })
        });
        Ok(Output { query: query.transpose()?, format: self.output })
    }

    /// Whether a page of a list is asked for in aws' way.
    pub fn pages(&self) -> bool {
        self.max_items.is_some() || self.starting_token.is_some()
    }
}

impl Output {
    /// Prints the answer to the operation of that name; nothing where there is nothing to say. Where the query fails on
    /// it, the whole answer, which there may be no second one of, before that is an error.
    pub fn print(&self, operation: &str, answer: Option<&Value>) -> Result<(), Ending> {
        match self.text(operation, answer) {
            Ok(text) => Ok(write(&text)?),
            Err(Usage(why)) => {
                print(answer)?;
                Err(Usage(format!("{operation} is done, and this is its whole answer: the query failed on it: {why}"))
                    .into())
            }
        }
    }

    fn text(&self, operation: &str, answer: Option<&Value>) -> Result<Zeroizing<String>, Usage> {
        let Some(answer) = answer else { return Ok(Zeroizing::default()) };
        let found = match &self.query {
            // Not copied: there may be a secret in it.
            None => Cow::Borrowed(answer),
            Some(query) => {
                let found = query.search(answer).map_err(|error| Usage(error.to_string()))?;
                Cow::Owned(serde_json::to_value(&*found).map_err(|error| Usage(error.to_string()))?)
            }
        };
        Ok(Zeroizing::new(match self.format {
            Format::Json => super::text::pretty(&found),
            Format::Text => text::of(&found),
            Format::Table => table::of(operation, &found),
            Format::Yaml => yaml::of(&found),
        }))
    }
}

/// As Python prints it, which aws' tables and texts do.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        // As it is, but for what would drive a terminal.
        Value::String(text) => text.split('\n').map(super::text::escape).collect::<Vec<_>>().join("\n"),
        value => value.to_string(),
    }
}

fn is_scalar(value: &Value) -> bool {
    !value.is_object() && !value.is_array()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn output(query: Option<&str>, output: Format) -> Result<Output, Usage> {
        OutputArgs { query: query.map(str::to_owned), output, ..OutputArgs::default() }.compile()
    }

    #[test]
    fn a_query_finds_a_part_and_a_wrong_one_is_refused_before_anything_is_done() {
        let answer = json!({"Keys": [{"KeyId": "a", "KeyArn": "x"}, {"KeyId": "b", "KeyArn": "y"}]});
        let text =
            |query, format| output(Some(query), format).ok().unwrap().text("ListKeys", Some(&answer)).ok().unwrap();
        assert_eq!(*text("Keys[].KeyId", Format::Text), "a\tb\n");
        assert_eq!(*text("Keys[?KeyId=='b'].KeyArn | [0]", Format::Json), "\"y\"\n");
        assert_eq!(*text("length(Keys)", Format::Json), "2\n");
        assert_eq!(*text("None", Format::Text), "None\n");
        let Err(Usage(why)) = output(Some("Keys["), Format::Json) else { panic!("it compiles") };
        assert!(why.starts_with("Bad value for --query Keys[: ") && !why.contains('\n'), "{why}");
        assert_eq!(*output(None, Format::Json).ok().unwrap().text("DisableKey", None).ok().unwrap(), "");
    }
}
