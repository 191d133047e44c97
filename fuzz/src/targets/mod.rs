//! The targets: each reads hostile bytes, and asserts what the host promises of them.
//!
//! A target returns the reason of a refusal, and panics where a promise is broken.

mod compiler;
mod components;
mod groups;
mod journal;
mod lines;
pub(crate) mod models;
mod outbound;
mod requests;
mod schedules;
mod wire;

/// A reader, with its limits.
pub struct Target {
    /// Name, that of its corpus and of its file in `fuzz_targets/`.
    pub name: &'static str,
    /// The reader: the reason of a refusal is an error.
    pub run: fn(&[u8]) -> Result<(), String>,
    /// Bytes of an input that are read.
    pub input_bytes_max: usize,
    /// Memory that one execution may hold.
    pub memory: Memory,
    /// Executions of it for a thousand of the fastest.
    pub share: u64,
    /// Words of its format, for the mutator.
    pub words: &'static [&'static str],
}

/// Memory as a multiple of the input, above what any input takes.
pub struct Memory {
    /// Bytes that an empty input may take.
    pub base_bytes: usize,
    /// Bytes for each byte of the input.
    pub times: usize,
}

impl Memory {
    /// Returns the bound for an input of `len` bytes.
    pub fn bytes_max(&self, len: usize) -> usize {
        self.base_bytes + self.times * len
    }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// All targets, by their names.
pub const TARGETS: [Target; 15] = [
    Target {
        name: "batch_answers",
        run: groups::answers,
        input_bytes_max: 4 * KIB,
        // Most of it is the target's own: an input for each line.
        memory: Memory { base_bytes: 64 * KIB, times: 256 },
        share: 1_000,
        words: &[
            "{\"ok\":",
            "{\"err\":",
            "\"code\"",
            "\"message\"",
            "\"causes\"",
            "retryable",
            "terminal",
            "invalid-input",
        ],
    },
    Target {
        name: "compiler_message",
        run: compiler::message,
        input_bytes_max: 10 * KIB,
        memory: Memory { base_bytes: 64 * KIB, times: 16 },
        share: 300,
        words: &[],
    },
    Target {
        name: "component",
        run: components::component,
        input_bytes_max: 8 * KIB,
        memory: Memory { base_bytes: 64 * MIB, times: 512 },
        share: 300,
        words: &["\0asm\x0d\0\u{1}\0", "\0asm\u{1}\0\0\0", "bireme:metadata", "wasi:http/incoming-handler@0.2.0"],
    },
    Target {
        name: "frame",
        run: wire::frame,
        input_bytes_max: 4 * KIB,
        memory: Memory { base_bytes: 64 * KIB, times: 64 },
        share: 1_000,
        words: &["BRM\u{3}", "\u{1}\0\0\0", "\0\0\0\0\0\0\0\0"],
    },
    Target {
        name: "http_request",
        run: requests::head,
        input_bytes_max: 4 * KIB,
        memory: Memory { base_bytes: 128 * KIB, times: 128 },
        share: 500,
        words: &[
            "GET ",
            "POST ",
            "HEAD ",
            "/api/v1/",
            "calls",
            "maps",
            "/inputs",
            "/v1/",
            "/v2/",
            "//",
            "?wait=",
            "&priority=",
            "\nhost: ",
            "\norigin: ",
            "\nsec-fetch-site: cross-site",
            "\nprefer: wait=",
            "\ncontent-type: ",
            "application/json",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "0x7f.1",
            "@",
            ":8080",
            "%2f",
            "\nidempotency-key: ",
            "\ncontent-encoding: gzip",
        ],
    },
    Target {
        name: "inference_request",
        run: requests::inference,
        input_bytes_max: 4 * KIB,
        memory: Memory { base_bytes: 128 * KIB, times: 128 },
        share: 500,
        words: &[
            "\"inputs\":",
            "\"shape\":",
            "\"datatype\":",
            "\"FP32\"",
            "\"INT64\"",
            "\"UINT64\"",
            "\"BYTES\"",
            "\"BOOL\"",
            "\"data\":",
            "\"binary_data_size\":",
            "\"parameters\":",
            "\"outputs\":",
            "\"input\":",
            "\"documents\":",
            "\"model\":",
            "[[",
            "-0.0",
            "1e39",
        ],
    },
    Target {
        name: "journal_row",
        run: journal::row,
        input_bytes_max: 4 * KIB,
        memory: Memory { base_bytes: 256 * KIB, times: 128 },
        share: 1_000,
        words: &[
            "\"state\":",
            "\"leased\"",
            "\"receipt\":",
            "\"failure\":",
            "\"cron\":",
            "_ms\":",
            "\"skipped\"",
            "\"why\":",
        ],
    },
    Target {
        name: "map_lines",
        run: lines::map_lines,
        input_bytes_max: 4 * KIB,
        memory: Memory { base_bytes: 512 * KIB, times: 256 },
        share: 300,
        words: &["\n", "\r\n", "\"base64\":", "\"content_type\":", "AAAA", "{}", "\"\u{e4}\"", "\u{2028}"],
    },
    Target {
        name: "metadata",
        run: components::metadata,
        input_bytes_max: 8 * KIB,
        memory: Memory { base_bytes: 256 * KIB, times: 256 },
        share: 300,
        words: &[
            "\"format\":1",
            "\"app\":",
            "\"functions\":",
            "\"name\":",
            "\"attributes\":",
            "\"route\":",
            "GET /{*rest}",
            "\"schedule\":",
            "\"cron\":",
            "\"tz\":",
            "\"period_ms\":",
            "\"batched\":",
            "\"retries\":",
            "\"secrets\":",
            "\"errors\":",
            "\"required\":",
        ],
    },
    Target {
        name: "model_manifest",
        run: models::manifest,
        input_bytes_max: 8 * KIB,
        // The limit of the process that reads them: a few bytes can be a large regular expression.
        memory: Memory { base_bytes: 1 << 30, times: 0 },
        share: 30,
        words: &[
            "\n---\n",
            "\"vocab\":",
            "\"WordPiece\"",
            "\"BPE\"",
            "\"added_tokens\":",
            "\"normalizer\":",
            "\"BertNormalizer\"",
            "\"pre_tokenizer\":",
            "\"post_processor\":",
            "\"TemplateProcessing\"",
            "\"id2label\":",
            "\"max_position_embeddings\":",
            "\"truncation\":",
            "\"padding\":",
            "\"keep\":",
            "\"max_batch_size\":",
            "[UNK]",
            "\"continuing_subword_prefix\":",
        ],
    },
    Target {
        name: "onnx",
        run: models::onnx,
        input_bytes_max: 2 * KIB,
        // The largest constant that a shape allows: 2^28 elements of eight bytes.
        memory: Memory { base_bytes: 3 << 30, times: 0 },
        share: 10,
        words: &[
            "Cast",
            "MatMul",
            "Softmax",
            "Reshape",
            "Expand",
            "ConstantOfShape",
            "Loop",
            "If",
            "Conv",
            "batch",
            "weights",
        ],
    },
    Target {
        name: "safetensors",
        run: models::safetensors,
        input_bytes_max: 4 * KIB,
        memory: Memory { base_bytes: MIB, times: 128 },
        share: 200,
        words: &[
            "\"dtype\":",
            "\"F32\"",
            "\"F16\"",
            "\"BF16\"",
            "\"F4\"",
            "\"U8\"",
            "\"shape\":",
            "\"data_offsets\":",
            "__metadata__",
        ],
    },
    Target {
        name: "schedule",
        run: schedules::times,
        input_bytes_max: 256,
        memory: Memory { base_bytes: MIB, times: KIB },
        share: 30,
        words: &[
            "\n",
            "*/",
            "0 0 ",
            "L",
            "#",
            "W",
            "?",
            "-",
            ",",
            "MON",
            "JAN",
            "29 2",
            "31",
            "@daily",
            "UTC",
            "Europe/Stockholm",
            "America/St_Johns",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "Africa/Casablanca",
            "Asia/Kathmandu",
        ],
    },
    Target {
        name: "tokenizer_table",
        run: models::table,
        input_bytes_max: 4 * KIB,
        memory: Memory { base_bytes: 16 * MIB, times: 2 * KIB },
        share: 30,
        words: &["##", "[MASK]", "\u{e4}", "\u{4e2d}"],
    },
    Target {
        name: "url_policy",
        run: outbound::policy,
        input_bytes_max: 512,
        memory: Memory { base_bytes: 256 * KIB, times: 256 },
        share: 200,
        words: &[
            "http://",
            "https://",
            "://",
            "@",
            ":80",
            "localhost",
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "[::1]",
            "[::ffff:",
            "[64:ff9b::",
            "169.254.169.254",
            "0xa9fea9fe",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "\u{ff11}\u{ff12}\u{ff17}",
            "\u{3002}",
            "%31",
            "10.0.0.1",
            "192.168.",
            "172.16.",
            "*.",
            "$name",
            "name=",
            "\\",
            "#",
            "?",
        ],
    },
];

/// Input that the canary breaks a promise on.
pub const CANARY_INPUT: &[u8] = b"sing";

/// A target that is broken, for tests of the runner.
pub const CANARY: Target = Target {
    name: "canary",
    run: |input| match input {
        CANARY_INPUT => panic!("the canary sings"),
        b"grow" => Err(format!("of {} bytes", vec![1_u8; MIB].len())),
        _ => Ok(()),
    },
    input_bytes_max: 8,
    memory: Memory { base_bytes: KIB, times: 16 },
    share: 1_000,
    words: &["sing", "grow"],
};

/// Returns the target of a name.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().chain(std::iter::once(&CANARY)).find(|target| target.name == name)
}
