//! ComfyUI's flags that have no meaning here: accepted, so that start scripts need no change.

use clap::Args;

/// Flags of ComfyUI that have no meaning here; hidden from `--help`, named once in a warning.
#[derive(Debug, Clone, Default, Args)]
pub struct UpstreamArgs {
    #[arg(long, hide = true)]
    fp64_unet: bool,
    #[arg(long = "fp8_e8m0fnu-unet", hide = true)]
    fp8_e8m0fnu_unet: bool,
    #[arg(long, hide = true)]
    force_channels_last: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "0", value_name = "N")]
    directml: Option<String>,
    #[arg(long, hide = true, value_name = "SELECTOR")]
    oneapi_device_selector: Option<String>,
    #[arg(long, hide = true)]
    disable_ipex_optimize: bool,
    #[arg(long, hide = true)]
    supports_fp8_compute: bool,
    #[arg(long, hide = true)]
    use_split_cross_attention: bool,
    #[arg(long, hide = true)]
    use_quad_cross_attention: bool,
    #[arg(long, hide = true)]
    use_pytorch_cross_attention: bool,
    #[arg(long, hide = true)]
    use_sage_attention: bool,
    #[arg(long, hide = true)]
    use_flash_attention: bool,
    #[arg(long, hide = true)]
    disable_xformers: bool,
    #[arg(long, hide = true)]
    force_upcast_attention: bool,
    #[arg(long, hide = true)]
    dont_upcast_attention: bool,
    #[arg(long, hide = true)]
    gpu_only: bool,
    #[arg(long, hide = true)]
    highvram: bool,
    #[arg(long, hide = true)]
    normalvram: bool,
    #[arg(long, hide = true)]
    lowvram: bool,
    #[arg(long, hide = true)]
    novram: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "2", value_name = "N")]
    async_offload: Option<String>,
    #[arg(long, hide = true)]
    disable_async_offload: bool,
    #[arg(long, hide = true)]
    force_non_blocking: bool,
    #[arg(long, hide = true)]
    disable_smart_memory: bool,
    #[arg(long, hide = true)]
    disable_pinned_memory: bool,
    #[arg(long, hide = true)]
    deterministic: bool,
    #[arg(long, hide = true, num_args = 0.., value_name = "NAME")]
    fast: Option<Vec<String>>,
    #[arg(long, hide = true, value_name = "NAME")]
    default_hashing_function: Option<String>,
    #[arg(long, hide = true)]
    mmap_torch_files: bool,
    #[arg(long, hide = true)]
    disable_mmap: bool,
    #[arg(long, hide = true)]
    dont_print_server: bool,
    #[arg(long, hide = true)]
    windows_standalone_build: bool,
    #[arg(long, hide = true)]
    disable_cuda_malloc: bool,
    #[arg(long, hide = true)]
    cuda_malloc: bool,
    #[arg(long, hide = true)]
    enable_manager: bool,
    #[arg(long, hide = true)]
    disable_manager_ui: bool,
    #[arg(long, hide = true)]
    enable_manager_legacy_ui: bool,
    #[arg(long, hide = true, value_name = "VERSION")]
    front_end_version: Option<String>,
    #[arg(long, hide = true, value_name = "URL")]
    comfy_api_base: Option<String>,
}

impl UpstreamArgs {
    /// The flags that were given, as they are written.
    pub fn given(&self) -> Vec<&'static str> {
        let flags: [(&'static str, bool); 39] = [
            ("--fp64-unet", self.fp64_unet),
            ("--fp8_e8m0fnu-unet", self.fp8_e8m0fnu_unet),
            ("--force-channels-last", self.force_channels_last),
            ("--directml", self.directml.is_some()),
            ("--oneapi-device-selector", self.oneapi_device_selector.is_some()),
            ("--disable-ipex-optimize", self.disable_ipex_optimize),
            ("--supports-fp8-compute", self.supports_fp8_compute),
            ("--use-split-cross-attention", self.use_split_cross_attention),
            ("--use-quad-cross-attention", self.use_quad_cross_attention),
            ("--use-pytorch-cross-attention", self.use_pytorch_cross_attention),
            ("--use-sage-attention", self.use_sage_attention),
            ("--use-flash-attention", self.use_flash_attention),
            ("--disable-xformers", self.disable_xformers),
            ("--force-upcast-attention", self.force_upcast_attention),
            ("--dont-upcast-attention", self.dont_upcast_attention),
            ("--gpu-only", self.gpu_only),
            ("--highvram", self.highvram),
            ("--normalvram", self.normalvram),
            ("--lowvram", self.lowvram),
            ("--novram", self.novram),
            ("--async-offload", self.async_offload.is_some()),
            ("--disable-async-offload", self.disable_async_offload),
            ("--force-non-blocking", self.force_non_blocking),
            ("--disable-smart-memory", self.disable_smart_memory),
            ("--disable-pinned-memory", self.disable_pinned_memory),
            ("--deterministic", self.deterministic),
            ("--fast", self.fast.is_some()),
            ("--default-hashing-function", self.default_hashing_function.is_some()),
            ("--mmap-torch-files", self.mmap_torch_files),
            ("--disable-mmap", self.disable_mmap),
            ("--dont-print-server", self.dont_print_server),
            ("--windows-standalone-build", self.windows_standalone_build),
            ("--disable-cuda-malloc", self.disable_cuda_malloc),
            ("--cuda-malloc", self.cuda_malloc),
            ("--enable-manager", self.enable_manager),
            ("--disable-manager-ui", self.disable_manager_ui),
            ("--enable-manager-legacy-ui", self.enable_manager_legacy_ui),
            ("--front-end-version", self.front_end_version.is_some()),
            ("--comfy-api-base", self.comfy_api_base.is_some()),
        ];
        flags.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect()
    }
}
