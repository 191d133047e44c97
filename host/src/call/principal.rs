//! Principal of a call: the party on whose behalf the call runs, and all calls that it starts.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{AppName, FunctionId, FunctionName, TokenName};

/// Root of a tree of calls. Children, spawned calls and maps inherit it; a record on disk keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub enum Principal {
    /// The command line, or a request to the control API without a token.
    #[default]
    Operator,
    /// A request with an access token.
    Token(TokenName),
    /// A request to a web function, which needs no token.
    App(AppName),
    /// A run of a schedule.
    Schedule(FunctionId),
}

/// Text that names no principal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no principal; there are operator, token:NAME, app:NAME and schedule:APP::FUNCTION")]
pub struct BadPrincipal(String);

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Token(token) => write!(f, "token:{token}"),
            Self::App(app) => write!(f, "app:{app}"),
            Self::Schedule(function) => write!(f, "schedule:{function}"),
        }
    }
}

impl FromStr for Principal {
    type Err = BadPrincipal;

    fn from_str(text: &str) -> Result<Self, BadPrincipal> {
        let parse = || match text.split_once(':') {
            None => (text == "operator").then_some(Self::Operator),
            Some(("token", name)) => TokenName::new(name).ok().map(Self::Token),
            Some(("app", name)) => AppName::new(name).ok().map(Self::App),
            Some(("schedule", function)) => {
                let (app, function) = function.split_once("::")?;
                let (app, function) = (AppName::new(app).ok()?, FunctionName::new(function).ok()?);
                Some(Self::Schedule(FunctionId { app, function }))
            }
            Some(_) => None,
        };
        parse().ok_or_else(|| BadPrincipal(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Principal {
    type Error = BadPrincipal;

    fn try_from(text: String) -> Result<Self, BadPrincipal> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> String {
        principal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_principal_is_read_back_from_its_text() {
        for text in ["operator", "token:ci", "app:blog", "schedule:blog::refresh"] {
            let principal: Principal = text.parse().unwrap();
            assert_eq!(principal.to_string(), text);
            assert_eq!(serde_json::from_str::<Principal>(&format!("{text:?}")).unwrap(), principal);
        }
    }

    #[test]
    fn text_that_names_no_principal_is_refused() {
        for text in ["", "root", "token:", "app:a b", "schedule:blog", "schedule:blog::", "user:ada"] {
            assert_eq!(text.parse::<Principal>(), Err(BadPrincipal(text.to_owned())));
        }
    }
}
