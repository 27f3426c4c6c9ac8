//! The command line.
//!
//! `serve` accepts every flag of ComfyUI 0.8, so that a start script needs no change; what has no meaning here is
//! named once in a warning (see [`UpstreamArgs::given`]). Each option can also be set by an environment variable
//! `RUSHLIGHT_NAME`, or in a TOML file ([`crate::config`]); the command line wins over both.

use std::path::PathBuf;

use candle_core::DType;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use rushlight_nodes::{FileDtype, PartPrecision, Precision};

use crate::upstream_args::UpstreamArgs;

/// An inference server for ComfyUI graphs.
#[derive(Debug, Parser)]
#[command(name = "rushlight", version, about, max_term_width = 110, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server.
    Serve(Box<ServeArgs>),
    /// Run one workflow here and now, without a server.
    Run(Box<RunArgs>),
    /// List the node classes, or show one.
    Nodes(NodesArgs),
    /// Look at the device, folders, models and port, and say what is wrong and what to do.
    Doctor(Box<ServeArgs>),
}

/// How step previews are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PreviewChoice {
    /// No previews.
    None,
    /// The best that is there: a linear map of the latent.
    Auto,
    /// A linear map of the latent.
    Latent2rgb,
    /// A small decoder (falls back to latent2rgb where its file is missing).
    Taesd,
}

impl PreviewChoice {
    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Auto => "auto",
            Self::Latent2rgb => "latent2rgb",
            Self::Taesd => "taesd",
        }
    }
}

/// Folders: where everything is found and written.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Folders")]
pub struct FolderArgs {
    /// Folder that holds models, input, output, temp, user and custom_nodes [default: the current folder].
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_BASE_DIRECTORY")]
    pub base_directory: Option<PathBuf>,
    /// Results go here.
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_OUTPUT_DIRECTORY")]
    pub output_directory: Option<PathBuf>,
    /// Uploads are here.
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_INPUT_DIRECTORY")]
    pub input_directory: Option<PathBuf>,
    /// Previews go to `temp` in this folder; emptied at start and stop.
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_TEMP_DIRECTORY")]
    pub temp_directory: Option<PathBuf>,
    /// Settings, workflows and the queue's database are here.
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_USER_DIRECTORY")]
    pub user_directory: Option<PathBuf>,
    /// Models are here.
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_MODELS_DIRECTORY")]
    pub models_directory: Option<PathBuf>,
    /// Further model folders (extra_model_paths.yaml).
    #[arg(long, value_name = "FILE", num_args = 1.., action = ArgAction::Append, env = "RUSHLIGHT_EXTRA_MODEL_PATHS_CONFIG", value_delimiter = ',')]
    pub extra_model_paths_config: Vec<PathBuf>,
    /// Follow symbolic links that lead out of a folder.
    #[arg(long, env = "RUSHLIGHT_FOLLOW_SYMLINKS")]
    pub follow_symlinks: bool,
}

/// Where and in which precision models run.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Device")]
pub struct DeviceArgs {
    /// Run on the CPU even if there is a GPU.
    #[arg(long, env = "RUSHLIGHT_CPU")]
    pub cpu: bool,
    /// Which CUDA device to use.
    #[arg(long, value_name = "N", env = "RUSHLIGHT_CUDA_DEVICE")]
    pub cuda_device: Option<usize>,
    /// Same as --cuda-device, when several are visible.
    #[arg(long, value_name = "N", env = "RUSHLIGHT_DEFAULT_DEVICE")]
    pub default_device: Option<usize>,
    /// Everything in float32.
    #[arg(long, env = "RUSHLIGHT_FORCE_FP32")]
    pub force_fp32: bool,
    /// Everything in float16, where the device has it.
    #[arg(long, conflicts_with = "force_fp32", env = "RUSHLIGHT_FORCE_FP16")]
    pub force_fp16: bool,
    /// Diffusion model in float32.
    #[arg(long, group = "unet_dtype", env = "RUSHLIGHT_FP32_UNET")]
    pub fp32_unet: bool,
    /// Diffusion model in bfloat16.
    #[arg(long, group = "unet_dtype", env = "RUSHLIGHT_BF16_UNET")]
    pub bf16_unet: bool,
    /// Diffusion model in float16.
    #[arg(long, group = "unet_dtype", env = "RUSHLIGHT_FP16_UNET")]
    pub fp16_unet: bool,
    /// Weights of the diffusion model rounded to 8 bits (4 of exponent).
    #[arg(long = "fp8_e4m3fn-unet", alias = "fp8-e4m3fn-unet", group = "unet_dtype")]
    pub fp8_e4m3fn_unet: bool,
    /// Weights of the diffusion model rounded to 8 bits (5 of exponent).
    #[arg(long = "fp8_e5m2-unet", alias = "fp8-e5m2-unet", group = "unet_dtype")]
    pub fp8_e5m2_unet: bool,
    /// VAE in float16 (published VAEs may give black pictures).
    #[arg(long, group = "vae_dtype")]
    pub fp16_vae: bool,
    /// VAE in float32 (the default).
    #[arg(long, group = "vae_dtype")]
    pub fp32_vae: bool,
    /// VAE in bfloat16.
    #[arg(long, group = "vae_dtype")]
    pub bf16_vae: bool,
    /// VAE on the CPU.
    #[arg(long, env = "RUSHLIGHT_CPU_VAE")]
    pub cpu_vae: bool,
    /// Weights of text encoders rounded to 8 bits (4 of exponent).
    #[arg(long = "fp8_e4m3fn-text-enc", alias = "fp8-e4m3fn-text-enc", group = "text_encoder_dtype")]
    pub fp8_e4m3fn_text_enc: bool,
    /// Weights of text encoders rounded to 8 bits (5 of exponent).
    #[arg(long = "fp8_e5m2-text-enc", alias = "fp8-e5m2-text-enc", group = "text_encoder_dtype")]
    pub fp8_e5m2_text_enc: bool,
    /// Text encoders in float16.
    #[arg(long, group = "text_encoder_dtype")]
    pub fp16_text_enc: bool,
    /// Text encoders in float32.
    #[arg(long, group = "text_encoder_dtype")]
    pub fp32_text_enc: bool,
    /// Text encoders in bfloat16.
    #[arg(long, group = "text_encoder_dtype")]
    pub bf16_text_enc: bool,
    /// Gigabytes of memory that are left to other programs.
    #[arg(long, value_name = "GB", env = "RUSHLIGHT_RESERVE_VRAM")]
    pub reserve_vram: Option<f64>,
    /// Do not save the prompt and workflow in pictures.
    #[arg(long, env = "RUSHLIGHT_DISABLE_METADATA")]
    pub disable_metadata: bool,
}

/// A flag that says in which precision a part is loaded: as it is written, whether it was given, what it means.
type PrecisionFlag = (&'static str, bool, PartPrecision);

/// What the first flag that was given means.
fn chosen(flags: &[PrecisionFlag], otherwise: PartPrecision) -> PartPrecision {
    flags.iter().find_map(|(_, given, part)| given.then_some(*part)).unwrap_or(otherwise)
}

impl DeviceArgs {
    fn everywhere(&self) -> [PrecisionFlag; 2] {
        [
            ("--force-fp32", self.force_fp32, PartPrecision::of(DType::F32)),
            ("--force-fp16", self.force_fp16, PartPrecision::of(DType::F16)),
        ]
    }

    fn unet(&self) -> [PrecisionFlag; 5] {
        [
            ("--fp32-unet", self.fp32_unet, PartPrecision::of(DType::F32)),
            ("--bf16-unet", self.bf16_unet, PartPrecision::of(DType::BF16)),
            ("--fp16-unet", self.fp16_unet, PartPrecision::of(DType::F16)),
            ("--fp8_e4m3fn-unet", self.fp8_e4m3fn_unet, PartPrecision::rounded(FileDtype::F8E4M3)),
            ("--fp8_e5m2-unet", self.fp8_e5m2_unet, PartPrecision::rounded(FileDtype::F8E5M2)),
        ]
    }

    fn text_encoder(&self) -> [PrecisionFlag; 5] {
        [
            ("--fp32-text-enc", self.fp32_text_enc, PartPrecision::of(DType::F32)),
            ("--bf16-text-enc", self.bf16_text_enc, PartPrecision::of(DType::BF16)),
            ("--fp16-text-enc", self.fp16_text_enc, PartPrecision::of(DType::F16)),
            ("--fp8_e4m3fn-text-enc", self.fp8_e4m3fn_text_enc, PartPrecision::rounded(FileDtype::F8E4M3)),
            ("--fp8_e5m2-text-enc", self.fp8_e5m2_text_enc, PartPrecision::rounded(FileDtype::F8E5M2)),
        ]
    }

    fn vae(&self) -> [PrecisionFlag; 3] {
        [
            ("--fp32-vae", self.fp32_vae, PartPrecision::of(DType::F32)),
            ("--bf16-vae", self.bf16_vae, PartPrecision::of(DType::BF16)),
            ("--fp16-vae", self.fp16_vae, PartPrecision::of(DType::F16)),
        ]
    }

    /// How the native nodes load models.
    pub fn node_settings(&self) -> rushlight_nodes::Settings {
        let everywhere = chosen(&self.everywhere(), PartPrecision::default());
        let gigabytes = self.reserve_vram.unwrap_or(0.0).max(0.0);
        rushlight_nodes::Settings {
            precision: Precision {
                unet: chosen(&self.unet(), everywhere),
                text_encoder: chosen(&self.text_encoder(), everywhere),
                // Half precision everywhere does not mean the VAE: it would overflow.
                vae: chosen(&self.vae(), PartPrecision::default()),
            },
            vae_on_cpu: self.cpu_vae,
            reserved_bytes: (gigabytes * f64::from(1 << 30)) as u64,
        }
    }

    /// The given flags that another engine beside this one has too, as they are written.
    pub fn shared_flags(&self) -> Vec<&'static str> {
        let others = [
            ("--cpu", self.cpu),
            ("--cpu-vae", self.cpu_vae),
            ("--reserve-vram", self.reserve_vram.is_some()),
            ("--disable-metadata", self.disable_metadata),
        ];
        let precision = [&self.everywhere()[..], &self.unet(), &self.text_encoder(), &self.vae()].concat();
        let precision = precision.into_iter().map(|(flag, given, _)| (flag, given));
        precision.chain(others).filter_map(|(flag, given)| given.then_some(flag)).collect()
    }
}

/// `rushlight serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where things are.
    #[command(flatten)]
    pub folders: FolderArgs,
    /// Where models run.
    #[command(flatten)]
    pub device: DeviceArgs,

    /// TOML file with options of the same names as these flags.
    #[arg(long, value_name = "FILE", env = "RUSHLIGHT_CONFIG")]
    pub config: Option<PathBuf>,

    /// Addresses to listen on, separated by commas; without a value: all (0.0.0.0 and ::).
    #[arg(long, value_name = "IP[,IP]", default_value = "127.0.0.1", num_args = 0..=1, default_missing_value = "0.0.0.0,::", env = "RUSHLIGHT_LISTEN", help_heading = "Network")]
    pub listen: String,
    /// Port.
    #[arg(long, default_value_t = 8188, env = "RUSHLIGHT_PORT", help_heading = "Network")]
    pub port: u16,
    /// TLS key; needs --tls-certfile.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_certfile",
        env = "RUSHLIGHT_TLS_KEYFILE",
        help_heading = "Network"
    )]
    pub tls_keyfile: Option<PathBuf>,
    /// TLS certificate; needs --tls-keyfile.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_keyfile",
        env = "RUSHLIGHT_TLS_CERTFILE",
        help_heading = "Network"
    )]
    pub tls_certfile: Option<PathBuf>,
    /// Send CORS headers for this origin (without a value: any).
    #[arg(long, value_name = "ORIGIN", num_args = 0..=1, default_missing_value = "*", env = "RUSHLIGHT_ENABLE_CORS_HEADER", help_heading = "Network")]
    pub enable_cors_header: Option<String>,
    /// Further host names under which this server may be reached.
    #[arg(long, value_name = "NAME", action = ArgAction::Append, env = "RUSHLIGHT_ALLOWED_HOST", value_delimiter = ',', help_heading = "Network")]
    pub allowed_host: Vec<String>,
    /// File with bearer tokens, one a line; requests without one are refused.
    #[arg(long, value_name = "FILE", env = "RUSHLIGHT_API_TOKEN_FILE", help_heading = "Network")]
    pub api_token_file: Option<PathBuf>,
    /// Largest request body in megabytes.
    #[arg(
        long,
        value_name = "MB",
        default_value_t = 100.0,
        env = "RUSHLIGHT_MAX_UPLOAD_SIZE",
        help_heading = "Network"
    )]
    pub max_upload_size: f64,
    /// Compress responses.
    #[arg(long, env = "RUSHLIGHT_ENABLE_COMPRESS_RESPONSE_BODY", help_heading = "Network")]
    pub enable_compress_response_body: bool,

    /// How step previews are made.
    #[arg(
        long,
        value_enum,
        default_value = "none",
        env = "RUSHLIGHT_PREVIEW_METHOD",
        help_heading = "Previews"
    )]
    pub preview_method: PreviewChoice,
    /// Previews fit in a square of this many pixels.
    #[arg(
        long,
        value_name = "PIXELS",
        default_value_t = 512,
        env = "RUSHLIGHT_PREVIEW_SIZE",
        help_heading = "Previews"
    )]
    pub preview_size: u32,

    /// Keep the outputs that the newest prompt uses (the default).
    #[arg(long, group = "cache", env = "RUSHLIGHT_CACHE_CLASSIC", help_heading = "Cache")]
    pub cache_classic: bool,
    /// Keep the outputs of the last N node results.
    #[arg(long, value_name = "N", group = "cache", env = "RUSHLIGHT_CACHE_LRU", help_heading = "Cache")]
    pub cache_lru: Option<usize>,
    /// Keep at most this many gigabytes of outputs (without a value: 4).
    #[arg(long, value_name = "GB", group = "cache", num_args = 0..=1, default_missing_value = "4", env = "RUSHLIGHT_CACHE_RAM", help_heading = "Cache")]
    pub cache_ram: Option<f64>,
    /// Keep no outputs.
    #[arg(long, group = "cache", env = "RUSHLIGHT_CACHE_NONE", help_heading = "Cache")]
    pub cache_none: bool,

    /// Folder with the frontend's files.
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_FRONT_END_ROOT", help_heading = "Frontend")]
    pub front_end_root: Option<PathBuf>,
    /// One user directory a user, chosen by header.
    #[arg(long, env = "RUSHLIGHT_MULTI_USER", help_heading = "Frontend")]
    pub multi_user: bool,
    /// Open a browser when the server is up.
    #[arg(
        long,
        overrides_with = "disable_auto_launch",
        env = "RUSHLIGHT_AUTO_LAUNCH",
        help_heading = "Frontend"
    )]
    pub auto_launch: bool,
    /// Do not open a browser.
    #[arg(
        long,
        overrides_with = "auto_launch",
        env = "RUSHLIGHT_DISABLE_AUTO_LAUNCH",
        help_heading = "Frontend"
    )]
    pub disable_auto_launch: bool,

    /// Load no custom nodes.
    #[arg(long, env = "RUSHLIGHT_DISABLE_ALL_CUSTOM_NODES", help_heading = "Custom nodes")]
    pub disable_all_custom_nodes: bool,
    /// Load these custom node packs even with --disable-all-custom-nodes.
    #[arg(long, value_name = "PACK", num_args = 1.., action = ArgAction::Append, env = "RUSHLIGHT_WHITELIST_CUSTOM_NODES", value_delimiter = ',', help_heading = "Custom nodes")]
    pub whitelist_custom_nodes: Vec<String>,
    /// A ComfyUI checkout whose nodes are used.
    #[arg(long, value_name = "DIR", env = "RUSHLIGHT_COMFYUI_DIR", help_heading = "Custom nodes")]
    pub comfyui_dir: Option<PathBuf>,
    /// Prefer Python implementations where a class has both.
    #[arg(long, env = "RUSHLIGHT_PREFER_PYTHON", help_heading = "Custom nodes")]
    pub prefer_python: bool,
    /// Load no nodes that call paid services (there are none here).
    #[arg(long, env = "RUSHLIGHT_DISABLE_API_NODES", help_heading = "Custom nodes")]
    pub disable_api_nodes: bool,

    /// The queue and history: a file, a sqlite:/// URL, or `memory` for none on disk.
    #[arg(long, value_name = "URL", env = "RUSHLIGHT_DATABASE_URL", help_heading = "Queue")]
    pub database_url: Option<String>,
    /// Seconds that a running prompt may go on after SIGTERM before it is put back in the queue.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 10.0,
        env = "RUSHLIGHT_SHUTDOWN_GRACE",
        help_heading = "Queue"
    )]
    pub shutdown_grace: f64,

    /// Log level (without a value: DEBUG).
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, default_value = "INFO", default_missing_value = "DEBUG", ignore_case = true, env = "RUSHLIGHT_VERBOSE", help_heading = "Log")]
    pub verbose: String,
    /// Log to standard output in place of standard error.
    #[arg(long, env = "RUSHLIGHT_LOG_STDOUT", help_heading = "Log")]
    pub log_stdout: bool,
    /// Start, load the nodes, and end.
    #[arg(long, env = "RUSHLIGHT_QUICK_TEST_FOR_CI", help_heading = "Log")]
    pub quick_test_for_ci: bool,

    /// Flags that are accepted for the sake of existing start scripts.
    #[command(flatten)]
    pub upstream: UpstreamArgs,
}

/// `rushlight run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Workflow in API format: a JSON file, or a PNG that carries one [default: a small picture by the embedded model].
    pub workflow: Option<PathBuf>,
    /// Change an input before the run: NODE is an id, a title or a class that occurs once.
    #[arg(long = "set", value_name = "NODE.INPUT=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// Write results here [default: the output folder].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Show previews and the result in the terminal.
    #[arg(long)]
    pub preview: bool,
    /// Where things are.
    #[command(flatten)]
    pub folders: FolderArgs,
    /// Where models run.
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// `rushlight nodes`.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// Show this class.
    pub name: Option<String>,
    /// List the classes of ComfyUI 0.8 that are not native yet, each with the reason.
    #[arg(long, conflicts_with = "name")]
    pub missing: bool,
    /// Print JSON as `/object_info` does.
    #[arg(long)]
    pub json: bool,
    /// Where things are.
    #[command(flatten)]
    pub folders: FolderArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> ServeArgs {
        let mut line = vec!["rushlight", "serve"];
        line.extend(args);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Serve(args) => *args,
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn listens_on_loopback_unless_told_otherwise() {
        assert_eq!(serve(&[]).listen, "127.0.0.1");
        assert_eq!(serve(&["--listen"]).listen, "0.0.0.0,::");
        assert_eq!(serve(&["--listen", "10.0.0.1"]).listen, "10.0.0.1");
    }

    #[test]
    fn flags_without_meaning_here_are_accepted_and_named() {
        let args =
            serve(&["--lowvram", "--fast", "fp16_accumulation", "--use-sage-attention", "--port", "9000"]);
        assert_eq!(args.upstream.given(), ["--use-sage-attention", "--lowvram", "--fast"]);
        assert_eq!(args.port, 9000);
    }

    #[test]
    fn precision_flags_set_the_types_of_their_parts() {
        let precision = |args: &[&str]| serve(args).device.node_settings().precision;
        assert_eq!(precision(&[]), Precision::default());
        let all = precision(&["--force-fp16", "--bf16-unet", "--fp8_e5m2-text-enc", "--fp32-vae"]);
        assert_eq!(all.unet, PartPrecision::of(DType::BF16));
        assert_eq!(all.text_encoder, PartPrecision::rounded(FileDtype::F8E5M2));
        assert_eq!(all.vae, PartPrecision::of(DType::F32));
        assert_eq!(precision(&["--force-fp32"]).unet, PartPrecision::of(DType::F32));
        assert_eq!(precision(&["--force-fp16"]).vae, PartPrecision::default());
        let settings = serve(&["--cpu-vae", "--reserve-vram", "1.5"]).device.node_settings();
        assert!(settings.vae_on_cpu);
        assert_eq!(settings.reserved_bytes, 3 << 29);
        assert_eq!(serve(&["--cpu-vae", "--fp16-unet"]).device.shared_flags(), ["--fp16-unet", "--cpu-vae"]);
    }

    #[test]
    fn the_line_that_custom_node_test_suites_use_is_accepted() {
        let args = serve(&[
            "--output-directory",
            "out",
            "--listen",
            "127.0.0.1",
            "--port",
            "8189",
            "--extra-model-paths-config",
            "extra.yaml",
            "--cpu",
            "--cache-lru",
            "5",
        ]);
        assert_eq!(args.cache_lru, Some(5));
        assert!(args.device.cpu);
        assert_eq!(args.folders.extra_model_paths_config, [PathBuf::from("extra.yaml")]);
    }

    #[test]
    fn preview_methods_have_the_names_that_they_are_written_by() {
        for choice in PreviewChoice::value_variants() {
            assert_eq!(serve(&["--preview-method", choice.name()]).preview_method, *choice);
        }
    }

    #[test]
    fn a_later_flag_wins() {
        assert_eq!(serve(&["--port", "1", "--port", "2"]).port, 2);
    }
}
