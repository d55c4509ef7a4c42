// Shows the reconstructed surface of the report page with WebGL: no libraries, nothing loaded from elsewhere.
(() => {
  "use strict";
  const box = document.getElementById("viewer");
  const canvas = box.querySelector("canvas"), still = box.querySelector(".still"), tools = box.querySelector(".tools");
  const gl = canvas.getContext("webgl", { antialias: true, alpha: true, premultipliedAlpha: true });
  if (!gl) {
    const said = document.createElement("p");
    said.className = "said";
    said.textContent = "This browser has no WebGL: the picture stands still.";
    box.append(said);
    return;
  }
  const data = JSON.parse(document.getElementById("surface-data").textContent);
  const bytes = (words) => Uint8Array.from(atob(words), (letter) => letter.charCodeAt(0));

  // Positions are 16-bit steps of the longest side of the box: 0 to 1 in the shaders.
  const positions = new Uint16Array(bytes(data.positions).buffer);
  const colours = bytes(data.colours);
  const confidence = data.confidence ? bytes(data.confidence) : null;
  const wide = data.count > 65536;
  const faces = data.faces ? new (wide ? Uint32Array : Uint16Array)(bytes(data.faces).buffer) : null;
  if (wide && faces && !gl.getExtension("OES_element_index_uint")) return;
  const normals = data.normals ? new Int8Array(bytes(data.normals).buffer) : faces ? normalsOf(positions, faces) : null;

  function normalsOf(points, corners) {
    const sums = new Float32Array(points.length);
    for (let i = 0; i < corners.length; i += 3) {
      const [a, b, c] = [3 * corners[i], 3 * corners[i + 1], 3 * corners[i + 2]];
      const u = [0, 1, 2].map((k) => points[b + k] - points[a + k]), v = [0, 1, 2].map((k) => points[c + k] - points[a + k]);
      const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
      for (const corner of [a, b, c]) for (let k = 0; k < 3; k++) sums[corner + k] += n[k];
    }
    const unit = new Int8Array(points.length);
    for (let i = 0; i < sums.length; i += 3) {
      const length = Math.hypot(sums[i], sums[i + 1], sums[i + 2]) || 1;
      for (let k = 0; k < 3; k++) unit[i + k] = Math.round((127 * sums[i + k]) / length);
    }
    return unit;
  }

  const VERTEX = `
    attribute vec3 position, colour, normal; attribute float confidence;
    uniform mat3 turn; uniform vec3 centre, shift; uniform vec2 zoom; uniform float distance, dot;
    varying vec3 tint, facing; varying float sure;
    void main() {
      vec3 seen = turn * (position - centre) + shift;
      seen.z += distance;
      gl_Position = vec4(seen.x * zoom.x, -seen.y * zoom.y, seen.z * 1.0002 - 0.02, seen.z);
      gl_PointSize = dot / seen.z;
      tint = colour; sure = confidence; facing = turn * normal;
    }`;
  // The confidence ramp is that of the page's colour bar, dark to light.
  const FRAGMENT = `
    precision mediump float;
    varying vec3 tint, facing; varying float sure; uniform int mode; uniform vec4 plain;
    vec3 ramp(float t) {
      vec3 low = vec3(0.23, 0.06, 0.23), middle = vec3(0.76, 0.37, 0.45), high = vec3(0.99, 0.96, 0.89);
      return t < 0.5 ? mix(low, middle, 2.0 * t) : mix(middle, high, 2.0 * t - 1.0);
    }
    void main() {
      float light = abs(normalize(facing + vec3(1e-5)).z);
      vec3 shown = tint;
      if (mode == 1) shown = vec3(0.86, 0.83, 0.78) * (0.16 + 0.84 * light * light);
      if (mode == 2) shown = ramp(sure) * (0.72 + 0.28 * light);
      gl_FragColor = mode == 3 ? plain : vec4(shown, 1.0);
    }`;

  function shader(kind, source) {
    const made = gl.createShader(kind);
    gl.shaderSource(made, source);
    gl.compileShader(made);
    return made;
  }
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, VERTEX));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER, FRAGMENT));
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return;
  gl.useProgram(program);
  const at = (name) => gl.getUniformLocation(program, name);
  const places = Object.fromEntries(
    ["turn", "centre", "shift", "zoom", "distance", "dot", "mode", "plain"].map((name) => [name, at(name)]));

  function attribute(name, values, size, kind) {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    if (values) gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const place = gl.getAttribLocation(program, name);
    return () => {
      if (place < 0) return;
      if (!values) return gl.disableVertexAttribArray(place);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, kind, kind !== gl.FLOAT, 0, 0);
    };
  }
  const surface = [
    attribute("position", positions, 3, gl.UNSIGNED_SHORT), attribute("colour", colours, 3, gl.UNSIGNED_BYTE),
    attribute("normal", normals, 3, gl.BYTE), attribute("confidence", confidence, 1, gl.UNSIGNED_BYTE)];
  const frusta = [
    attribute("position", new Float32Array(data.lines), 3, gl.FLOAT),
    attribute("colour", null), attribute("normal", null), attribute("confidence", null)];
  if (faces) {
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
  }
  gl.enable(gl.DEPTH_TEST);

  // ---- where one stands: rows of `turn` are the view's axes (x right, y down, z away) in the world
  const start = () => ({ turn: data.turn.slice(), shift: [0, 0, 0], distance: 3.7 * data.reach });
  let view = start(), mode = 0, cameras = true, turning = false, asked = false;

  function rotate(yaw, pitch) {
    const [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
    const by = [[cy, 0, sy], [-sy * sp, cp, cy * sp], [-sy * cp, -sp, cy * cp]];
    const old = view.turn, made = [];
    for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++)
      made[3 * i + j] = by[i][0] * old[j] + by[i][1] * old[3 + j] + by[i][2] * old[6 + j];
    for (let i = 0; i < 3; i++) { // rounding must not shear the surface after many turns
      for (let k = 0; k < i; k++) {
        const along = made[3 * i] * made[3 * k] + made[3 * i + 1] * made[3 * k + 1] + made[3 * i + 2] * made[3 * k + 2];
        for (let j = 0; j < 3; j++) made[3 * i + j] -= along * made[3 * k + j];
      }
      const length = Math.hypot(made[3 * i], made[3 * i + 1], made[3 * i + 2]);
      for (let j = 0; j < 3; j++) made[3 * i + j] /= length;
    }
    view.turn = made;
  }

  function draw() {
    asked = false;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const focus = 2.6, least = Math.min(width, height);
    const t = view.turn; // column-major for WebGL
    gl.uniformMatrix3fv(places.turn, false, [t[0], t[3], t[6], t[1], t[4], t[7], t[2], t[5], t[8]]);
    gl.uniform3fv(places.centre, data.centre);
    gl.uniform3fv(places.shift, view.shift);
    gl.uniform2f(places.zoom, (focus * least) / width, (focus * least) / height);
    gl.uniform1f(places.distance, view.distance);
    gl.uniform1f(places.dot, (2.7 * focus * least * data.reach) / Math.sqrt(data.count));
    gl.uniform1i(places.mode, mode);
    surface.forEach((bind) => bind());
    if (faces) gl.drawElements(gl.TRIANGLES, faces.length, wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT, 0);
    else gl.drawArrays(gl.POINTS, 0, data.count);
    if (cameras && data.lines.length) {
      gl.uniform1i(places.mode, 3);
      gl.uniform4f(places.plain, 0.36, 0.72, 0.94, 1);
      frusta.forEach((bind) => bind());
      gl.drawArrays(gl.LINES, 0, data.lines.length / 3);
    }
    if (turning) { rotate(0.006, 0); ask(); }
  }
  function ask() {
    if (!asked) { asked = true; requestAnimationFrame(draw); }
  }

  // ---- hands
  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  const nearer = (factor) => { view.distance = Math.min(20 * data.reach, Math.max(0.15 * data.reach, view.distance * factor)); };
  const move = (dx, dy) => {
    const step = view.distance / (1.3 * Math.min(canvas.clientWidth, canvas.clientHeight));
    view.shift[0] += dx * step;
    view.shift[1] += dy * step;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [dx, dy, apart] = [event.clientX - before.x, event.clientY - before.y, fingers.size === 2 ? spread() : 0];
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (apart) nearer(apart / Math.max(spread(), 1));
    else if (event.shiftKey || event.buttons === 2) move(dx, dy);
    else rotate(-dx * 0.008, -dy * 0.008); // what is near follows the hand
    ask();
  });
  for (const kind of ["pointerup", "pointercancel"])
    canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    nearer(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) * 0.0015));
    ask();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [0.08, 0], ArrowRight: [-0.08, 0], ArrowUp: [0, 0.08], ArrowDown: [0, -0.08] };
    if (steps[event.key]) rotate(...steps[event.key]);
    else if (event.key === "+" || event.key === "-") nearer(event.key === "+" ? 0.9 : 1.1);
    else return;
    event.preventDefault();
    ask();
  });
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const press = (one, down) => one.setAttribute("aria-pressed", String(down));
    if (button.dataset.mode) {
      mode = ["colour", "shape", "confidence"].indexOf(button.dataset.mode);
      tools.querySelectorAll("[data-mode]").forEach((one) => press(one, one === button));
    } else if (button.dataset.act === "cameras") press(button, (cameras = !cameras));
    else if (button.dataset.act === "turn") press(button, (turning = !turning));
    else view = start();
    ask();
  });
  canvas.addEventListener("webglcontextlost", () => { canvas.hidden = tools.hidden = true; still.hidden = false; });

  still.hidden = true;
  canvas.hidden = tools.hidden = false;
  new ResizeObserver(ask).observe(canvas);
  ask();
})();
