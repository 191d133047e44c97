//! `bireme build`: compiles a crate to a component with embedded metadata.

use clap::Args;
use serde_json::json;

use super::compile_max::CompileArgs;
use super::exit::Exit;
use super::global::Global;
use super::{inspect, output, target};
use crate::logs::NoLog;
use crate::server::Host;

/// Build an app: prints the component's path, size, functions and capabilities.
#[derive(Args)]
#[command(after_help = "Example:\n  bireme build examples/hello")]
pub(crate) struct Build {
    /// The crate's directory.
    app: String,
    #[command(flatten)]
    compile: CompileArgs,
}

impl Build {
    pub(crate) async fn run(self, global: &Global) -> Result<(), Exit> {
        let mut config = global.config(&[])?;
        self.compile.apply(&mut config);
        let host = Host::build(config, std::sync::Arc::new(NoLog))?;
        let (path, app) = target::locate(&self.app, &host.config.directories).await?.describe(&host).await?;
        if global.json {
            output::line(
                &json!({
                    "path": path,
                    "bytes": app.component.bytes.len(),
                    "version": app.component.version(),
                    "app": app.metadata.app,
                    "functions": app.metadata.functions,
                })
                .to_string(),
            );
            return Ok(());
        }
        output::line(&format!("{} ({})", path.display(), output::bytes(app.component.bytes.len() as u64)));
        output::line(&inspect::describe(&app));
        Ok(())
    }
}
