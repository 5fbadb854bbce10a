"use strict";
// Scrolls through sheets of axial slices: the T1w below, a layer of PET in colour above it.
for (const viewer of document.querySelectorAll(".viewer")) {
  const find = (name) => viewer.querySelector(`[data-role="${name}"]`);
  const canvas = find("canvas");
  const [tracer, kind, slice, opacity] = ["tracer", "kind", "slice", "opacity"].map(find);
  const [count, columns, width, height] = ["slices", "columns", "width", "height"].map((name) =>
    Number(viewer.dataset[name]),
  );
  const t1w = find("t1w");
  const layers = [...viewer.querySelectorAll('[data-role="layer"]')];
  const bars = [...viewer.querySelectorAll('[data-role="bar"]')];
  const pen = canvas.getContext("2d");

  const layerOf = (name) =>
    layers.find((layer) => layer.dataset.tracer === tracer.value && layer.dataset.kind === name);

  // Not every tracer was measured, too.
  const chosen = () => (kind && layerOf(kind.value)) || layerOf("mean");

  const drawSlice = (sheet, index) => {
    const rows = Math.ceil(count / columns);
    const w = sheet.naturalWidth / columns;
    const h = sheet.naturalHeight / rows;
    const x = (index % columns) * w;
    const y = Math.floor(index / columns) * h;
    pen.drawImage(sheet, x, y, w, h, 0, 0, canvas.width, canvas.height);
  };

  const show = () => {
    const layer = chosen();
    if (kind) {
      for (const option of kind.options) option.disabled = !layerOf(option.value);
      kind.value = layer.dataset.kind;
    }
    const index = Number(slice.value) - 1;
    pen.globalAlpha = 1;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    if (t1w.complete && t1w.naturalWidth) drawSlice(t1w, index);
    pen.globalAlpha = Number(opacity.value) / 100;
    if (layer.complete && layer.naturalWidth) drawSlice(layer, index);
    const place = `slice ${slice.value} of ${count} from below`;
    slice.setAttribute("aria-valuetext", place);
    opacity.setAttribute("aria-valuetext", `${opacity.value} percent`);
    find("place").textContent = `S${place.slice(1)}`;
    canvas.setAttribute("aria-label", `${layer.dataset.title}, axial ${place}`);
    find("lower").textContent = layer.dataset.lower;
    find("upper").textContent = `${layer.dataset.upper} SUVR`;
    for (const bar of bars) bar.hidden = bar.dataset.kind !== layer.dataset.kind;
  };

  canvas.width = width * 2;
  canvas.height = height * 2;
  pen.imageSmoothingQuality = "high";
  for (const control of [tracer, kind, slice, opacity]) {
    if (control) control.addEventListener("input", show);
  }
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (document.activeElement !== slice) return; // or the page could not be scrolled past
      event.preventDefault();
      slice.value = Number(slice.value) - Math.sign(event.deltaY);
      show();
    },
    { passive: false },
  );
  canvas.addEventListener("click", () => slice.focus());
  for (const sheet of [t1w, ...layers]) sheet.addEventListener("load", show);
  viewer.hidden = false;
  show();
}
