"""``folder_paths``: where models, pictures and packs are."""

from __future__ import annotations

import mimetypes
import os
import time

from rushlight.host import state

supported_pt_extensions: set = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}

_folders = state.app.folders() if state.app is not None else {}

base_path: str = _folders.get("base") or os.getcwd()
models_dir: str = _folders.get("models") or os.path.join(base_path, "models")
output_directory: str = _folders.get("output") or os.path.join(base_path, "output")
temp_directory: str = _folders.get("temp") or os.path.join(base_path, "temp")
input_directory: str = _folders.get("input") or os.path.join(base_path, "input")
user_directory: str = _folders.get("user") or os.path.join(base_path, "user")


class _FolderTable(dict):
    """Key → (folders, extensions); old names of keys find the new ones."""

    def __missing__(self, key):
        new = map_legacy(key)
        if new != key and new in self:
            return self[new]
        raise KeyError(key)

    def get(self, key, default=None):
        try:
            return self[key]
        except KeyError:
            return default


def map_legacy(folder_name: str) -> str:
    """Today's name of a folder key."""
    return {"unet": "diffusion_models", "clip": "text_encoders"}.get(folder_name, folder_name)


folder_names_and_paths: dict = _FolderTable()

for _key, (_paths, _extensions) in (_folders.get("keys") or {}).items():
    folder_names_and_paths[_key] = (list(_paths), set(_extensions))
for _key in (
    "checkpoints loras vae text_encoders diffusion_models clip_vision style_models embeddings vae_approx controlnet "
    "gligen upscale_models hypernetworks photomaker classifiers model_patches audio_encoders latent_upscale_models"
).split():
    folder_names_and_paths.setdefault(_key, ([os.path.join(models_dir, _key)], set(supported_pt_extensions)))
folder_names_and_paths.setdefault("configs", ([os.path.join(models_dir, "configs")], {".yaml"}))
folder_names_and_paths.setdefault("diffusers", ([os.path.join(models_dir, "diffusers")], {"folder"}))
_custom = [os.path.join(base_path, "custom_nodes")]
_custom += [os.path.abspath(_place) for _place in state.options.get("custom_nodes") or ()]
folder_names_and_paths["custom_nodes"] = (list(dict.fromkeys(_custom)), set())


def get_output_directory() -> str:
    return output_directory


def get_temp_directory() -> str:
    return temp_directory


def get_input_directory() -> str:
    return input_directory


def get_user_directory() -> str:
    return user_directory


def get_system_user_directory(name: str = "system") -> str:
    return os.path.join(user_directory, f"__{name}")


def get_public_user_directory(user_id: str) -> "str | None":
    if not user_id or user_id.startswith("__") or os.path.basename(user_id) != user_id:
        return None
    return os.path.join(user_directory, user_id)


def _move(kind: str, folder: str) -> None:
    globals()[kind + "_directory"] = folder
    if state.app is not None:
        state.app.set_folder(kind, os.path.abspath(folder))


def set_output_directory(folder: str) -> None:
    """Native nodes and ``/view`` go by it, too."""
    _move("output", folder)


def set_temp_directory(folder: str) -> None:
    """Native nodes and ``/view`` go by it, too. Only the temp folder of the start is emptied."""
    _move("temp", folder)


def set_input_directory(folder: str) -> None:
    """Native nodes and uploads go by it, too."""
    _move("input", folder)


def set_user_directory(folder: str) -> None:
    """For Python only: the server keeps its settings, workflows and queue where ``--user-directory`` says."""
    globals()["user_directory"] = folder


def get_directory_by_type(type_name: str) -> "str | None":
    return {"output": output_directory, "temp": temp_directory, "input": input_directory}.get(type_name)


def get_input_subfolders() -> list:
    found = []
    for folder, _, _ in os.walk(input_directory):
        relative = os.path.relpath(folder, input_directory)
        if relative != ".":
            found.append(relative.replace(os.sep, "/"))
    return sorted(found)


def annotated_filepath(name: str):
    """``name [output]`` → (``name``, output folder); without a mark the folder is ``None``."""
    for mark, folder in ((" [output]", output_directory), ("[output]", output_directory),
                         (" [input]", input_directory), ("[input]", input_directory),
                         (" [temp]", temp_directory), ("[temp]", temp_directory)):
        if name.endswith(mark):
            return name[: -len(mark)].rstrip(), folder
    return name, None


def _beneath(folder: str, name: str) -> str:
    path = os.path.realpath(os.path.join(folder, name))
    root = os.path.realpath(folder)
    if path != root and not path.startswith(root + os.sep):
        raise ValueError(f"'{name}' leads out of {folder}")
    return path


def get_annotated_filepath(name: str, default_dir: "str | None" = None) -> str:
    """The path that a name with or without a mark stands for.

    As in ComfyUI it may lead anywhere: packs load pictures from outside the input folder with it. Native nodes never
    ask this function.
    """
    name, folder = annotated_filepath(name)
    return os.path.join(folder or default_dir or input_directory, name)


def exists_annotated_filepath(name: str) -> bool:
    return os.path.exists(get_annotated_filepath(name))


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    folder_name = map_legacy(folder_name)
    paths, extensions = folder_names_and_paths.get(folder_name) or ([], set())
    if full_folder_path in paths:
        if is_default:
            paths.remove(full_folder_path)
            paths.insert(0, full_folder_path)
    elif is_default:
        paths.insert(0, full_folder_path)
    else:
        paths.append(full_folder_path)
    folder_names_and_paths[folder_name] = (paths, extensions)
    if state.app is not None and folder_name != "custom_nodes":
        state.app.add_model_folder(folder_name, full_folder_path, is_default)


def get_folder_paths(folder_name: str) -> list:
    return folder_names_and_paths[map_legacy(folder_name)][0][:]


def recursive_search(directory: str, excluded_dir_names=None):
    """Files below a folder, and the time stamp of each folder."""
    if not os.path.isdir(directory):
        return [], {}
    excluded = set(excluded_dir_names or ())
    files, stamps = [], {directory: os.path.getmtime(directory)}
    for folder, subfolders, names in os.walk(directory, followlinks=True):
        subfolders[:] = [name for name in subfolders if name not in excluded]
        for name in names:
            files.append(os.path.relpath(os.path.join(folder, name), directory).replace(os.sep, "/"))
        for name in subfolders:
            path = os.path.join(folder, name)
            try:
                stamps[path] = os.path.getmtime(path)
            except OSError:
                continue
    return files, stamps


def filter_files_extensions(files, extensions) -> list:
    return sorted(f for f in files if not extensions or os.path.splitext(f)[-1].lower() in extensions)


def filter_files_content_types(files, content_types) -> list:
    """Those files whose media type (``image``, ``audio``, ``video``, ``model``) is wanted."""
    kept = []
    for name in files:
        kind = mimetypes.guess_type(name, strict=False)[0]
        if os.path.splitext(name)[1].lower() in (".glb", ".gltf", ".obj", ".fbx", ".stl"):
            kind = "model/" + os.path.splitext(name)[1][1:]
        if os.path.splitext(name)[1].lower() == ".webp":
            kind = "image/webp"
        if kind and kind.split("/")[0] in content_types:
            kept.append(name)
    return kept


def get_filename_list(folder_name: str) -> list:
    folder_name = map_legacy(folder_name)
    paths, extensions = folder_names_and_paths[folder_name]
    found = set()
    for folder in paths:
        if "folder" in extensions:
            if os.path.isdir(folder):
                found.update(entry.name for entry in os.scandir(folder) if entry.is_dir())
            continue
        found.update(filter_files_extensions(recursive_search(folder, [".git"])[0], extensions))
    if state.app is not None and "folder" not in extensions:
        found.update(state.app.model_names(folder_name))
    return sorted(found)


def get_full_path(folder_name: str, filename: str) -> "str | None":
    folder_name = map_legacy(folder_name)
    if folder_name not in folder_names_and_paths:
        return None
    filename = os.path.relpath(os.path.join("/", filename), "/")
    for folder in folder_names_and_paths[folder_name][0]:
        path = os.path.join(folder, filename)
        if os.path.isfile(path):
            return path
    return None


def get_full_path_or_raise(folder_name: str, filename: str) -> str:
    path = get_full_path(folder_name, filename)
    if path is None:
        raise FileNotFoundError(f"Model in folder '{folder_name}' with filename '{filename}' not found.")
    return path


def get_relative_path(full_path: str):
    """(folder key, relative path) of a model file, or ``None``."""
    full_path = os.path.realpath(full_path)
    for key, (paths, _) in folder_names_and_paths.items():
        for folder in paths:
            root = os.path.realpath(folder)
            if full_path.startswith(root + os.sep):
                return key, os.path.relpath(full_path, root).replace(os.sep, "/")
    return None


def get_save_image_path(filename_prefix: str, output_dir: str, image_width=0, image_height=0):
    """(folder, file name, counter, subfolder, prefix) for the next picture of a prefix."""
    now = time.localtime()
    fields = {
        "width": image_width, "height": image_height, "year": now.tm_year, "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}", "hour": f"{now.tm_hour:02}", "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for name, value in fields.items():
        filename_prefix = filename_prefix.replace(f"%{name}%", str(value))
    subfolder = os.path.dirname(os.path.normpath(filename_prefix))
    filename = os.path.basename(os.path.normpath(filename_prefix))
    folder = _beneath(output_dir, subfolder) if subfolder else os.path.abspath(output_dir)
    os.makedirs(folder, exist_ok=True)
    counter = 1
    for entry in os.listdir(folder):
        stem = entry[: len(filename) + 1]
        if os.path.normcase(stem) != os.path.normcase(filename + "_"):
            continue
        digits = entry[len(filename) + 1 :].split("_")[0].split(".")[0]
        if digits.isdigit():
            counter = max(counter, int(digits) + 1)
    return folder, filename, counter, subfolder, filename_prefix


def get_input_names(kinds) -> list:
    """Names of input files of some media types."""
    names = [n for n in os.listdir(input_directory) if os.path.isfile(os.path.join(input_directory, n))]
    return sorted(filter_files_content_types(names, kinds))


class _CacheHelper:
    """Upstream caches lists within a request; ours are read when asked for."""

    active = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def clear(self):
        pass


cache_helper = _CacheHelper()
filename_list_cache: dict = {}


def invalidate_cache(folder_name: str) -> None:
    """Lists are read when asked for."""
