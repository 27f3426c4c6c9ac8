//! Which classes of the original are not native, and why.

use rushlight_runtime::Registry;

/// Every core class of the original with the module it is in, one a line.
const UPSTREAM: &str = include_str!("upstream_classes.tsv");

/// A class of the original that is not native.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub class: &'static str,
    /// Why, in a sentence.
    pub reason: &'static str,
}

/// Core classes of the original that `registry` does not have, in alphabetical order.
pub fn missing(registry: &Registry) -> Vec<Missing> {
    UPSTREAM
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(class, _)| registry.get(class).is_none())
        .map(|(class, module)| Missing { class, reason: reason(class, module) })
        .collect()
}

/// Why a class is not native, by what it needs.
fn reason(class: &str, module: &str) -> &'static str {
    match class {
        "LTXVPreprocess" | "SaveAudioMP3" | "CreateVideo" | "GetVideoComponents" | "LoadVideo"
        | "SaveVideo" | "SaveWEBM" => {
            return "needs an ffmpeg executable: install ffmpeg, or name one by RUSHLIGHT_FFMPEG";
        }
        "CheckpointLoader" => {
            return "configuration files in YAML are not read: CheckpointLoaderSimple needs none";
        }
        "DiffControlNetLoader" => return "control networks stored as differences are not implemented",
        "WebcamCapture" => return "not implemented yet",
        "SaveSVGNode" => return "no native class makes SVG pictures",
        "LoraSave" => return "extracting a LoRA from two models is not implemented",
        "GLIGENLoader" | "GLIGENTextBoxApply" => return "GLIGEN models are not implemented",
        "ImageOnlyCheckpointSave" | "ImageOnlyCheckpointLoader" => {
            return "its video models are not implemented";
        }
        "TorchCompileModel" => return "compiles PyTorch models, which this program does not run",
        _ => {}
    }
    match module {
        "video" => "needs video codecs",
        "hunyuan3d" | "load_3d" | "stable3d" => "its 3D models are not implemented",
        "train" => "training is not implemented",
        "dataset" => "reading and writing folders of training data is not implemented",
        "hooks" => "hooks on conditioning are not implemented",
        "audio" | "audio_encoder" | "ace" | "lt_audio" => "its audio models are not implemented",
        "model_merging" | "model_merging_model_specific" => "the models it merges are not implemented",
        "wan" | "wanmove" | "camera_trajectory" | "hunyuan" | "kandinsky5" | "lt" | "lt_upsampler"
        | "mochi" | "cosmos" | "video_model" | "context_windows" | "nop" => {
            "its video models are not implemented"
        }
        "photomaker" | "model_patch" | "stable_cascade" | "hypernetwork" | "qwen" | "hidream" | "lotus"
        | "sdupscale" | "chroma_radiance" => "its models are not implemented",
        "tomesd" | "easycache" | "attention_multiply" | "model_downscale" | "slg" | "rope" => {
            "its patch of the network is not implemented"
        }
        _ => "not implemented yet",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_the_original_is_native_or_missing() {
        let mut registry = Registry::new();
        crate::register(&mut registry);
        let missing = missing(&registry);
        assert_eq!(missing.len() + registry.iter().count(), UPSTREAM.lines().count());
        assert!(missing.iter().all(|missing| registry.get(missing.class).is_none()));
        assert!(missing.iter().any(|missing| missing.class == "Hunyuan3Dv2Conditioning" || missing.class == "TrainLoraNode"));
    }
}
