//! `muster methods` and `muster help METHOD`: what the pool offers.

use super::{CommandResult, ask_list, connect};
use crate::cli::{Cli, Common, HelpArgs, MethodsArgs};
use crate::output::{Output, clean, counted, note};
use clap::CommandFactory;
use muster_proto::exit::Exit;
use serde_json::Value;

/// Lists the methods of the workers; the broker's own are left out.
pub fn list(common: &Common, args: &MethodsArgs, out: &mut Output) -> CommandResult {
    let client = connect(common)?;
    for (raw, method) in ask_list(&client, "broker.methods", &())? {
        let name = clean(method["name"].as_str().unwrap_or_default());
        match (out.json, args.long) {
            (true, _) => out.line(raw.get())?,
            (false, false) => out.line(&name)?,
            (false, true) => {
                out.line(&format!("Method -- {name}"))?;
                out.line(&format!("  Signature: {}", signature(&method)))?;
                let mut help = method["doc"].as_str().unwrap_or_default().lines();
                out.line(&format!(
                    "  Help : {}",
                    clean(help.next().unwrap_or_default())
                ))?;
                for line in help {
                    out.line(format!("         {}", clean(line)).trim_end())?;
                }
            }
        }
    }
    Ok(Exit::Done)
}

/// Describes one method; without a name, this program.
pub fn help(common: &Common, args: &HelpArgs, out: &mut Output) -> CommandResult {
    let Some(name) = &args.method else {
        out.line(Cli::command().render_help().to_string().trim_end())?;
        return Ok(Exit::Done);
    };
    let client = connect(common)?;
    let methods = ask_list(&client, "broker.methods", &())?;
    let Some((raw, method)) = methods.iter().find(|(_, method)| method["name"] == **name) else {
        note(&format!(
            "no worker offers {name}; `muster methods` lists what there is"
        ));
        return Ok(Exit::Failed);
    };
    if out.json {
        out.line(raw.get())?;
        return Ok(Exit::Done);
    }
    let params = method["params"].as_array();
    let params = params.map_or_else(
        || "…".to_owned(),
        |params| {
            let texts = params.iter().map(|param| {
                let name = clean(param["name"].as_str().unwrap_or("?"));
                if param["optional"] == true {
                    format!("[{name}]")
                } else {
                    name
                }
            });
            texts.collect::<Vec<_>>().join(", ")
        },
    );
    out.line(&format!("{}({params})", clean(name)))?;
    for line in method["doc"].as_str().unwrap_or_default().lines() {
        out.line(format!("  {}", clean(line)).trim_end())?;
    }
    if method["once"] == true {
        out.line("  Never runs twice.")?;
    }
    out.line(&format!(
        "  On {} of {}.",
        counted(method["slots"].as_u64().unwrap_or(0), "slot"),
        counted(method["workers"].as_u64().unwrap_or(0), "worker")
    ))?;
    Ok(Exit::Done)
}

/// The names of the parameters as Python's XML-RPC examples print them: `['x', 'y']`.
fn signature(method: &Value) -> String {
    let Some(params) = method["params"].as_array() else {
        return "unknown".into();
    };
    let names: Vec<String> = params
        .iter()
        .map(|param| format!("'{}'", clean(param["name"].as_str().unwrap_or("?"))))
        .collect();
    format!("[{}]", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_signature_names_the_parameters() {
        let method = json!({"params": [{"name": "x"}, {"name": "y", "optional": true}]});
        assert_eq!(signature(&method), "['x', 'y']");
        assert_eq!(signature(&json!({"params": []})), "[]");
        assert_eq!(signature(&json!({"params": null})), "unknown");
    }
}
