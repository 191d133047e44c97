use bireme_sdk::prelude::*;

struct NoError;

#[function]
fn fails() -> Result<(), NoError> {
    Err(NoError)
}

fn main() {}
