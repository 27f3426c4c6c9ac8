// The server's own page: state, queue with live previews, last pictures, and a form for a checkpoint.
// It uses nothing but the routes and the socket that every client has.

const $ = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token");
const session = sessionStorage.getItem("session") ?? crypto.randomUUID?.().replaceAll("-", "") ?? String(Math.random()).slice(2);
sessionStorage.setItem("session", session);

/** A URL of the server, with the token if the page was opened with one. */
function url(path, query = {}) {
  const all = new URLSearchParams(query);
  if (token) all.set("token", token);
  const text = all.toString();
  return text ? `${path}?${text}` : path;
}

async function ask(path, { query, body } = {}) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  const response = await fetch(url(path, query), options);
  const text = await response.text();
  const value = text ? JSON.parse(text) : null;
  if (!response.ok) throw new Error(describe(value) || `${response.status} ${response.statusText}`);
  return value;
}

/** A refusal in words. */
function describe(refusal) {
  const lines = [];
  const { error, node_errors: nodes = {} } = refusal ?? {};
  if (error) lines.push([error.message ?? error, error.details].filter(Boolean).join(": "));
  for (const node of Object.values(nodes)) {
    for (const fault of node.errors) lines.push(`${node.class_type}: ${fault.message}: ${fault.details}`);
  }
  return lines.join("\n");
}

function problem(text) {
  $("problem").textContent = text ?? "";
  $("problem").hidden = !text;
}

function chip(id, text) {
  $(id).textContent = text;
  $(id).hidden = !text;
}

const gigabytes = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GB`;

// ---------------------------------------------------------------- state

async function showSystem() {
  const { system, devices } = await ask("/system_stats");
  $("version").textContent = `${system.rushlight_version ?? ""} · speaks ComfyUI ${system.comfyui_version}`;
  chip("memory", `${gigabytes(system.ram_free)} of ${gigabytes(system.ram_total)} free`);
  chip("device", devices.map((device) => device.name).join(", "));
}

function fill(select, options, wanted) {
  select.replaceChildren(...options.map((name) => new Option(name, name, false, name === wanted)));
}

async function showChoices() {
  const models = await ask("/models/checkpoints");
  fill($("model"), models, $("model").value || models.find((name) => name.startsWith("rushlight-tiny")));
  if (!models.length) problem("There is no checkpoint. Put one into models/checkpoints.");
  const info = await ask("/object_info/KSampler");
  const inputs = info.KSampler?.input.required ?? {};
  const choices = (name) => (Array.isArray(inputs[name]?.[0]) ? inputs[name][0] : inputs[name]?.[1]?.options ?? []);
  if (choices("sampler_name").length) fill($("sampler"), choices("sampler_name"), "euler");
  if (choices("scheduler").length) fill($("scheduler"), choices("scheduler"), "normal");
}

// ---------------------------------------------------------------- queue

const titles = new Map();

/** What a queued prompt is about: the longest text in it. */
function titleOf([, id, prompt]) {
  if (!titles.has(id)) {
    const texts = Object.values(prompt ?? {}).flatMap((node) => Object.values(node.inputs ?? {}))
      .filter((value) => typeof value === "string");
    texts.sort((a, b) => b.length - a.length);
    titles.set(id, texts[0] ?? id);
  }
  return titles.get(id);
}

let asked = 0;
async function showQueue() {
  const mine = ++asked;
  const { queue_running: running, queue_pending: pending } = await ask("/queue");
  if (mine !== asked) return; // A newer question is under way.
  pending.sort((a, b) => a[0] - b[0]);
  const items = [...running.map((item) => [item, true]), ...pending.map((item) => [item, false])];
  $("queue").replaceChildren(...items.slice(0, 50).map(([item, isRunning]) => {
    const row = document.createElement("li");
    const text = document.createElement("span");
    text.textContent = text.title = titleOf(item);
    row.className = isRunning ? "running" : "";
    row.append(text);
    if (!isRunning) {
      const button = document.createElement("button");
      button.textContent = "✕";
      button.setAttribute("aria-label", "Remove from the queue");
      button.onclick = () => ask("/queue", { body: { delete: [item[1]] } }).then(showQueue);
      row.append(button);
    }
    return row;
  }));
  $("queue-empty").hidden = items.length > 0;
  $("queue-count").textContent = `queue: ${items.length}`;
  $("interrupt").disabled = running.length === 0;
  if (!running.length) idle();
}

// ---------------------------------------------------------------- pictures

const view = (file, more = {}) =>
  url("/view", { filename: file.filename, subfolder: file.subfolder ?? "", type: file.type ?? "output", ...more });

async function showGallery() {
  const history = await ask("/history", { query: { max_items: 24 } });
  const files = Object.values(history).reverse()
    .flatMap((entry) => Object.values(entry.outputs ?? {}))
    .flatMap((output) => output.images ?? [])
    .filter((file) => file.type === "output").slice(0, 24);
  $("gallery").replaceChildren(...files.map((file) => {
    const link = document.createElement("a");
    const image = new Image();
    link.href = view(file);
    link.target = "_blank";
    link.rel = "noopener";
    image.loading = "lazy";
    image.alt = image.title = file.filename;
    image.src = view(file, { preview: "jpeg;85" });
    link.append(image);
    return link;
  }));
  $("gallery-empty").hidden = files.length > 0;
  return files[0];
}

let shown = null;
function showLive(source, isBlob) {
  if (shown) URL.revokeObjectURL(shown);
  shown = isBlob ? source : null;
  $("live").src = source;
  $("live").hidden = false;
  $("idle").hidden = true;
}

function doing(text, value = 0, max = 1) {
  $("doing").textContent = text;
  $("bar").max = max || 1;
  $("bar").value = value;
}

function idle() {
  doing("idle");
}

// ---------------------------------------------------------------- socket

const classes = new Map();

const handlers = {
  status: () => showQueue(),
  execution_start: () => doing("starting"),
  executing: ({ node }) => node && doing(`running ${classes.get(node) ?? `node ${node}`}`),
  progress: ({ value, max, node }) => doing(`${classes.get(node) ?? "step"} ${value} of ${max}`, value, max),
  executed: ({ output }) => {
    const file = output?.images?.at(-1);
    if (file) showLive(view(file), false);
  },
  execution_success: () => showGallery(),
  execution_error: (error) => problem(`${error.node_type}: ${error.exception_message}`.trim()),
  execution_interrupted: () => doing("stopped"),
};

function onBinary(buffer) {
  const frame = new DataView(buffer);
  const kind = frame.getUint32(0);
  if (kind === 1) {
    const type = frame.getUint32(4) === 2 ? "image/png" : "image/jpeg";
    showLive(URL.createObjectURL(new Blob([buffer.slice(8)], { type })), true);
  } else if (kind === 4) {
    const length = frame.getUint32(4);
    const metadata = JSON.parse(new TextDecoder().decode(buffer.slice(8, 8 + length)));
    showLive(URL.createObjectURL(new Blob([buffer.slice(8 + length)], { type: metadata.image_type })), true);
  }
}

let delay = 500;
function connect() {
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const socket = new WebSocket(`${scheme}//${location.host}${url("/ws", { clientId: session })}`);
  socket.binaryType = "arraybuffer";
  const state = (text, name) => {
    $("connection").textContent = text;
    $("connection").className = `chip ${name}`;
  };
  socket.onopen = () => {
    delay = 500;
    state("connected", "up");
    socket.send(JSON.stringify({ type: "feature_flags", data: { supports_preview_metadata: true } }));
    Promise.all([showSystem(), showChoices(), showQueue(), showGallery()]).catch((error) => problem(error.message));
  };
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") return onBinary(data);
    const { type, data: value } = JSON.parse(data);
    Promise.resolve(handlers[type]?.(value)).catch((error) => problem(error.message));
  };
  socket.onclose = () => {
    state("disconnected", "down");
    setTimeout(connect, delay);
    delay = Math.min(delay * 2, 10_000);
  };
}

// ---------------------------------------------------------------- form

/** The graph of a text-to-picture run. */
function graph() {
  const number = (id) => Number($(id).value);
  // Seeds beyond 2^53 would lose digits as numbers.
  const seed = $("seed").value.trim() === "" ? Math.floor(Math.random() * 2 ** 48) : Number($("seed").value);
  const text = (id) => ({ class_type: "CLIPTextEncode", inputs: { text: $(id).value, clip: ["1", 1] } });
  return {
    1: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: $("model").value } },
    2: text("prompt"),
    3: text("negative"),
    4: { class_type: "EmptyLatentImage", inputs: { width: number("width"), height: number("height"), batch_size: number("batch") } },
    5: {
      class_type: "KSampler",
      inputs: {
        seed, steps: number("steps"), cfg: number("cfg"), sampler_name: $("sampler").value,
        scheduler: $("scheduler").value, denoise: 1, model: ["1", 0], positive: ["2", 0], negative: ["3", 0],
        latent_image: ["4", 0],
      },
    },
    6: { class_type: "VAEDecode", inputs: { samples: ["5", 0], vae: ["1", 2] } },
    7: { class_type: "SaveImage", inputs: { filename_prefix: "rushlight", images: ["6", 0] } },
  };
}

$("form").onsubmit = async (event) => {
  event.preventDefault();
  problem();
  const prompt = graph();
  for (const [id, node] of Object.entries(prompt)) classes.set(id, node.class_type);
  try {
    await ask("/prompt", { body: { prompt, client_id: session, extra_data: { preview_method: "latent2rgb" } } });
  } catch (error) {
    problem(error.message);
  }
};

$("interrupt").onclick = () => ask("/interrupt", { body: {} }).catch((error) => problem(error.message));

connect();
