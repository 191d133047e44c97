//! Lines of the call's log, with a level and fields.
//!
//! ```
//! use bireme_sdk::log;
//!
//! let (url, status) = ("https://example.com", 200);
//! log::info!("fetched {url}");
//! log::info!("fetched", url = url, status = status);
//! log::warn!(url, status = status; "slow answer after {} ms", 1_200);
//! ```
//!
//! Fields stand behind the message, as `name = value`, where they can also be named in it; or in front of it, ended by
//! `;`, where a name that is in scope stands for itself. Values are written with `Display`. The host keeps 1 MiB for
//! each call by default, and counts dropped bytes.

use std::fmt;

use crate::host;

pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Severity of a line.
///
/// ```
/// use bireme_sdk::log::Level;
///
/// assert!(Level::Warn > Level::Info);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Every step.
    Trace,
    /// Aids for development.
    Debug,
    /// News for an operator.
    Info,
    /// Oddities that were dealt with.
    Warn,
    /// Errors.
    Error,
}

/// Writes one line; expansion of the macros.
///
/// ```
/// use bireme_sdk::log::{Level, write};
///
/// write(Level::Info, format_args!("fetched"), &[("status", &200)]);
/// ```
pub fn write(level: Level, message: fmt::Arguments<'_>, fields: &[(&str, &dyn fmt::Display)]) {
    let fields: Vec<(String, String)> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    host::log(level, &message.to_string(), &fields);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    (@fields $level:ident [$($fields:tt)*] $name:ident = $value:expr, $($rest:tt)+) => {
        $crate::__log!(@fields $level [$($fields)* (::core::stringify!($name), &$value),] $($rest)+)
    };
    (@fields $level:ident [$($fields:tt)*] $name:ident = $value:expr; $($message:tt)+) => {
        $crate::log::write($crate::log::Level::$level, ::core::format_args!($($message)+), &[$($fields)* (::core::stringify!($name), &$value)])
    };
    (@fields $level:ident [$($fields:tt)*] $name:ident, $($rest:tt)+) => {
        $crate::__log!(@fields $level [$($fields)* (::core::stringify!($name), &$name),] $($rest)+)
    };
    (@fields $level:ident [$($fields:tt)*] $name:ident; $($message:tt)+) => {
        $crate::log::write($crate::log::Level::$level, ::core::format_args!($($message)+), &[$($fields)* (::core::stringify!($name), &$name)])
    };
    (@fields $level:ident [] $message:literal, $($name:ident = $value:expr),+ $(,)?) => {{
        $(let $name = &$value;)+
        $crate::log::write($crate::log::Level::$level, ::core::format_args!($message), &[$((::core::stringify!($name), $name)),+])
    }};
    (@fields $level:ident [] $($message:tt)+) => {
        $crate::log::write($crate::log::Level::$level, ::core::format_args!($($message)+), &[])
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($argument:tt)+) => { $crate::__log!(@fields Trace [] $($argument)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($argument:tt)+) => { $crate::__log!(@fields Debug [] $($argument)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($argument:tt)+) => { $crate::__log!(@fields Info [] $($argument)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($argument:tt)+) => { $crate::__log!(@fields Warn [] $($argument)+) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($argument:tt)+) => { $crate::__log!(@fields Error [] $($argument)+) };
}

#[cfg(test)]
mod tests {
    use crate::{log, testing};

    #[test]
    fn fields_stand_behind_the_message_or_in_front_of_it() {
        let (status, url) = (200, "http://a/");
        let (_, lines) = testing::logs(|| {
            log::info!("plain");
            log::info!("{} and {n}", 1, n = 2);
            log::info!("fetched", url = url, status = status,);
            log::warn!("fetched {n} of {url}", n = 3 + 4);
            log::error!(url, status = status + 1; "fetched {}", url);
        });
        let lines: Vec<String> = lines
            .iter()
            .map(|(_, message, fields)| {
                let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                message.clone() + &fields
            })
            .collect();
        assert_eq!(
            lines,
            [
                "plain",
                "1 and 2",
                "fetched url=http://a/ status=200",
                "fetched 7 of http://a/ n=7",
                "fetched http://a/ url=http://a/ status=201"
            ]
        );
    }
}
