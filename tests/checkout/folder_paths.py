import os

base_path = os.path.dirname(os.path.abspath(__file__))
models_dir = os.path.join(base_path, "models")
folder_names_and_paths = {
    "custom_nodes": ([os.path.join(base_path, "custom_nodes")], set()),
    "checkpoints": ([os.path.join(models_dir, "checkpoints")], {".safetensors"}),
}
_directories = {}


def set_output_directory(path):
    _directories["output"] = path


def set_input_directory(path):
    _directories["input"] = path


def set_temp_directory(path):
    _directories["temp"] = path


def set_user_directory(path):
    _directories["user"] = path


def get_output_directory():
    return _directories["output"]


def get_folder_paths(name):
    return list(folder_names_and_paths[name][0])


def add_model_folder_path(name, path, is_default=False):
    folder_names_and_paths.setdefault(name, ([], set()))[0].append(path)
