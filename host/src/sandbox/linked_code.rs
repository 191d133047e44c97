//! Linked code of a program: a component with every import resolved.

use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::bindings::AppPre;
use super::link_errors;
use super::program::{Code, Program, ProgramError};
use super::state::CallState;
use crate::app::compiled::{Compiled, CompiledModule};
use crate::app::kind::WEB_HANDLER;
use crate::app::metadata::Metadata;

/// Entry points of a program. Each is there if the app has a function of its kind.
pub(crate) struct LinkedCode {
    functions: Option<AppPre<CallState>>,
    web: Option<ProxyPre<CallState>>,
    /// Kept, so that the next app with such a module finds it loaded.
    _modules: Vec<CompiledModule>,
}

impl LinkedCode {
    /// Links a component. An error for an import that the host lacks, and for an export that the app's functions need.
    pub(crate) fn link(
        linker: &Linker<CallState>,
        compiled: &Compiled,
        metadata: &Metadata,
    ) -> Result<Code, ProgramError> {
        let app = &metadata.app.name;
        let component = compiled.component();
        let linker = &compiled
            .linker(linker)
            .map_err(|error| ProgramError::Link { app: app.clone(), reason: format!("{error:#}") })?;
        let pre =
            linker.instantiate_pre(component).map_err(|error| match link_errors::find(component, linker, &error) {
                Some(missing) => ProgramError::Import { app: app.clone(), missing },
                None => ProgramError::Link { app: app.clone(), reason: format!("{error:#}") },
            })?;
        let has = |web: bool| metadata.functions.iter().any(|function| function.attributes.route.is_some() == web);
        let lacks = |what, export| ProgramError::Export { app: app.clone(), what, export };
        let functions = has(false).then(|| AppPre::new(pre.clone())).transpose();
        let functions = functions.map_err(|_| lacks("functions", link_errors::HANDLER))?;
        let web = has(true).then(|| ProxyPre::new(pre)).transpose();
        let web = web.map_err(|_| lacks("web functions", WEB_HANDLER))?;
        Ok(Box::new(Self { functions, web, _modules: compiled.modules().to_vec() }))
    }

    /// Returns the handler of a program's functions.
    pub(crate) fn functions_of(program: &Program) -> &AppPre<CallState> {
        Self::of(program).functions.as_ref().expect("a program of functions exports their handler")
    }

    /// Returns the handler of a program's web functions.
    pub(crate) fn web_of(program: &Program) -> &ProxyPre<CallState> {
        Self::of(program).web.as_ref().expect("a program of web functions exports their handler")
    }

    fn of(program: &Program) -> &Self {
        program.code().downcast_ref().expect("`link` alone makes the code of programs")
    }
}
