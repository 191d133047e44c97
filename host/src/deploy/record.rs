//! Records of changes to apps, one for each deployment, rollback and stop.
//!
//! The last record of an app alone says what is live; nothing else has to agree with it.

use serde::{Deserialize, Serialize};

use crate::app::capabilities::Capability;
use crate::ids::{AppName, FunctionName, Version};

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Deploy,
    Rollback,
    Stop,
}

impl Action {
    /// Returns the name in the API and on disk.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Deploy => "deploy",
            Action::Rollback => "rollback",
            Action::Stop => "stop",
        }
    }
}

/// One change to an app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counted from 1 for each app.
    pub number: u64,
    pub action: Action,
    /// The version that is live from then on; for `Stop`, the one that was live until then.
    pub version: Version,
    /// SHA-256 of the component file, in hex.
    pub digest: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes of the component file.
    pub bytes: u64,
    pub functions: Vec<FunctionName>,
    /// The app's own grants, beyond those of the host.
    #[serde(default)]
    pub grants: Vec<String>,
    /// Capabilities that the app declares.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Capabilities among them that were new, and accepted.
    #[serde(default)]
    pub added: Vec<Capability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Record {
    /// Whether the app is live after this record.
    pub fn is_live(&self) -> bool {
        self.action != Action::Stop
    }
}

/// Returns the key of a record; the keys of one app are adjacent and in order.
pub fn key(app: &AppName, number: u64) -> Vec<u8> {
    // Names hold no NUL, so no app's prefix begins another's key.
    [prefix(app).as_slice(), &number.to_be_bytes()].concat()
}

/// Returns the prefix of the keys of an app.
pub fn prefix(app: &AppName) -> Vec<u8> {
    [app.as_str().as_bytes(), b"\0"].concat()
}

/// Returns the app of a key.
pub fn app_of(key: &[u8]) -> Option<AppName> {
    let name = key.split(|byte| *byte == 0).next()?;
    AppName::new(std::str::from_utf8(name).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn keys_of_one_app_are_in_order_and_apart_from_others() {
        let (a, ab) = (AppName::new("a").unwrap(), AppName::new("ab").unwrap());
        let mut keys = [key(&ab, 1), key(&a, 256), key(&a, 255), key(&a, 1)];
        keys.sort();
        assert_eq!(keys, [key(&a, 1), key(&a, 255), key(&a, 256), key(&ab, 1)]);
        assert_eq!(app_of(&key(&ab, 7)), Some(ab));
        assert_eq!(app_of(b"../x\0"), None);
    }

    fn full(action: Action) -> Record {
        Record {
            number: 7,
            action,
            version: Version::of_digest(&[0xab; 32]),
            digest: "ab".repeat(32),
            at_ms: 1_000,
            bytes: 2_000,
            functions: vec!["f".parse().unwrap(), "g".parse().unwrap()],
            grants: vec!["$site=http://127.0.0.1:1".to_owned()],
            capabilities: ["outbound:$site", "model:m", "secret:S"].map(|text| text.parse().unwrap()).into(),
            added: vec!["secret:S".parse().unwrap()],
            message: Some("a message".to_owned()),
        }
    }

    /// Pins the on-disk format, which users' data directories hold (`docs/decisions/store-format.md`).
    #[test]
    fn a_record_is_on_disk_as_it_was() {
        let check = |record: Record, expected: Expect| {
            let json = serde_json::to_string_pretty(&record).unwrap();
            expected.assert_eq(&json);
            assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        };
        check(
            full(Action::Deploy),
            expect![[r#"
            {
              "number": 7,
              "action": "deploy",
              "version": "abababababab",
              "digest": "abababababababababababababababababababababababababababababababab",
              "at_ms": 1000,
              "bytes": 2000,
              "functions": [
                "f",
                "g"
              ],
              "grants": [
                "$site=http://127.0.0.1:1"
              ],
              "capabilities": [
                "outbound:$site",
                "model:m",
                "secret:S"
              ],
              "added": [
                "secret:S"
              ],
              "message": "a message"
            }"#]],
        );
        check(
            Record { message: None, ..full(Action::Stop) },
            expect![[r#"
            {
              "number": 7,
              "action": "stop",
              "version": "abababababab",
              "digest": "abababababababababababababababababababababababababababababababab",
              "at_ms": 1000,
              "bytes": 2000,
              "functions": [
                "f",
                "g"
              ],
              "grants": [
                "$site=http://127.0.0.1:1"
              ],
              "capabilities": [
                "outbound:$site",
                "model:m",
                "secret:S"
              ],
              "added": [
                "secret:S"
              ]
            }"#]],
        );
        let names = serde_json::to_string(&[Action::Deploy, Action::Rollback, Action::Stop]).unwrap();
        let key = key(&AppName::new("app").unwrap(), 258);
        expect![[r#"["deploy","rollback","stop"]"#]].assert_eq(&names);
        expect![[r#"app\x00\x00\x00\x00\x00\x00\x00\x01\x02"#]].assert_eq(&key.escape_ascii().to_string());
    }

    #[test]
    fn a_record_of_before_there_were_grants_is_read() {
        let json = serde_json::to_value(full(Action::Deploy)).unwrap();
        let old = ["grants", "capabilities", "added", "message"].iter().fold(json, |mut json, name| {
            json.as_object_mut().unwrap().remove(*name).unwrap();
            json
        });
        let read: Record = serde_json::from_value(old).unwrap();
        let (grants, capabilities, added, message) = Default::default();
        assert_eq!(read, Record { grants, capabilities, added, message, ..full(Action::Deploy) });
    }
}
