//! Messages between host, compiler process and its forks.

use bireme::fuzzing::compiler::{order, order_again, reply};

/// Two bits of descriptors in the first byte, and a message, read as an order and as a reply.
pub(super) fn message(input: &[u8]) -> Result<(), String> {
    let (head, message) = input.split_first().ok_or("no descriptors")?;
    if message.is_empty() {
        return Err("an empty message is the end of the connection".to_owned());
    }
    let files = usize::from(*head) % 3;
    let lowest = lowest_descriptor();
    let ordered = order(message, files);
    let replied = reply(message, files);
    assert_eq!(lowest_descriptor(), lowest, "descriptors of a refused message stay open");
    if let Ok(Some(limits)) = ordered {
        assert_eq!(order_again(limits.0, limits.1).expect("an order is sent"), Some(limits));
    }
    match replied {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn lowest_descriptor() -> i32 {
    use std::os::fd::{AsFd, AsRawFd};
    let file = std::io::stderr().as_fd().try_clone_to_owned().expect("a descriptor is free");
    file.as_raw_fd()
}
