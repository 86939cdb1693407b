// The page of one slide: draws when something has changed, and turns hands into what is shown.

import {Drawing, boxOf} from "./drawing.js"
import {Outlines} from "./outlines.js"
import {Pyramid} from "./pyramid.js"
import {View, ZOOM_STEP} from "./view.js"

const CALM_MS = 90, AGAIN_MS = 1000, SOON_MS = 40
const here = name => document.getElementById(name)
const percent = (value, digits = 1) => value === null ? "–" : `${(100 * value).toFixed(digits)} %`

const scene = JSON.parse(here("scene").textContent)
const canvas = here("slide"), context = canvas.getContext("2d", {alpha: false})

let is_due = true, moved_at = 0, last_frame = 0, socket = null
const changed = () => { is_due = true }
let is_soon = false
const soon = () => {  // tiles come by the dozen; one drawing shows several of them
  if (is_soon) return
  is_soon = true
  setTimeout(() => { is_soon = false; changed() }, SOON_MS)
}
const view = new View(canvas, scene, () => { moved_at = performance.now(); changed() })
const pyramid = new Pyramid(scene, view, changed, text => tellFault(text))
const outlines = new Outlines(scene, view, text => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(text)
})
const drawing = new Drawing(scene, view)
let progress = {stage: "preparing", outlines: false}

function frame(now) {
  requestAnimationFrame(frame)
  const moves = view.step(now - last_frame)
  last_frame = now
  if (moves) moved_at = now
  const is_calm = now - moved_at > CALM_MS
  if (!moves && !is_due && is_calm === frame.was_calm) return
  is_due = false
  frame.was_calm = is_calm
  context.setTransform(view.density, 0, 0, view.density, 0, 0)
  context.fillStyle = getComputedStyle(canvas).backgroundColor
  context.fillRect(0, 0, view.width, view.height)
  const is_whole = pyramid.draw(context)
  const nearness = Math.min(Math.max((Math.log2(outlines.magnification) + 2) / 1.3, 0), 1)
  drawing.drawUnder(context, nearness)
  if (progress.outlines && is_calm) outlines.want()
  outlines.draw(context, is_calm)
  drawing.drawOver(context)
  if (is_calm) tellSight()
  canvas.dataset.calm = is_calm && is_whole && is_due === false
}

// --- what is told in words

let fault = ""
function tellFault(text) {
  if (text === fault) return
  fault = text
  here("fault").textContent = text
  here("fault").hidden = !text
}

function tellSight() {
  const words = here("sight-words"), value = here("sight")
  if (!progress.outlines) {
    value.textContent = "–"
    words.textContent = progress.fault || (progress.stage === "failed" ? "" : "the stain is being measured …")
    return
  }
  if (!outlines.on) {
    value.textContent = "–"
    words.textContent = "outlines are off (O)"
    return
  }
  if (!outlines.isNear) {
    value.textContent = "–"
    words.textContent = "zoom in until nuclei can be told apart"
    return
  }
  const sight = outlines.sight()
  value.textContent = percent(sight.density)
  value.dataset.missing = sight.missing
  words.textContent =
    sight.missing ? `${sight.tiles - sight.missing} of ${sight.tiles} tiles segmented …`
    : sight.area === 0 ? (sight.without ? "no value here" : "no tissue here")
    : `nucleus area / ${scene.per} area in sight` + (sight.without ? `; ${sight.without} tiles without a value` : "")
}

function tellProgress(now) {
  const could = progress.outlines
  progress = now
  const {stage, done, total, figures, words} = now
  const texts = {
    preparing: "measuring the stain …",
    measuring: total ? `measuring: ${done.toLocaleString("en")} of ${total.toLocaleString("en")} tiles` : "measuring …",
    finished: words,
    failed: words,
  }
  here("stage").textContent = texts[stage]
  here("stage").classList.toggle("warning", stage === "failed")
  here("bar").hidden = stage !== "measuring"
  here("bar").value = total ? done / total : 0
  here("mean").textContent = percent(figures.mean ?? null)
  here("band").textContent = figures.band
    ? `mean density, ${(100 * figures.band[0]).toFixed(1)} to ${(100 * figures.band[1]).toFixed(1)}` : "mean density"
  for (const [at, share] of (figures.class_shares ?? []).entries()) {
    here(`share-${at}`).textContent = percent(share)
    here(`length-${at}`).value = share
  }
  if (now.hot_spots.length !== drawing.spots.length) listSpots(now.hot_spots)
  if (!here("regions").childElementCount && now.regions.length) listRegions(now.regions)
  here("warnings").replaceChildren(...now.warnings.map(text => element("p", text, "warning")))
  document.body.dataset.stage = stage
  document.body.dataset.outlines = now.outlines
  if (now.outlines && !could) outlines.again()
  changed()
}

function element(name, text = "", style = "") {
  const made = document.createElement(name)
  made.textContent = text
  made.className = style
  return made
}

// --- hot spots, regions, fields

function listSpots(spots) {
  drawing.spots = spots
  here("no-spots").hidden = spots.length > 0
  here("spots").replaceChildren(...spots.map((spot, at) => {
    const button = element("button")
    button.append(element("em", spot.rank), element("span", spot.square),
                  element("strong", percent(spot.density)),
                  element("small", `${(100 * spot.density_low).toFixed(1)}–${(100 * spot.density_high).toFixed(1)}`))
    button.addEventListener("click", () => choose(at))
    const line = element("li")
    line.append(button)
    return line
  }))
}

function choose(at) {
  if (!drawing.spots.length) return
  drawing.chosen = (at + drawing.spots.length) % drawing.spots.length
  view.show(boxOf(drawing.spots[drawing.chosen]), {rim: 0.15})
  for (const [place, line] of [...here("spots").children].entries())
    line.firstChild.setAttribute("aria-current", place === drawing.chosen)
}

function listRegions(regions) {
  here("regions-part").hidden = false
  here("regions").replaceChildren(...regions.map(region => {
    const button = element("button")
    button.append(element("span", region.name), element("strong", percent(region.density)))
    button.addEventListener("click", () => view.show(region.box, {rim: 0.05}))
    const line = element("li")
    line.append(button)
    return line
  }))
}

function tellFields({boxes, fault: why}) {
  drawing.fields = boxes
  here("fields").textContent = boxes.length
    ? `${boxes.length} field${boxes.length === 1 ? "" : "s"} in ${scene.fields}` : "none yet"
  here("annotate").hidden = !boxes.length
  here("fields-fault").textContent = why
  changed()
}

function mark(x = view.at.x, y = view.at.y) {
  if (socket?.readyState === WebSocket.OPEN)
    socket.send(JSON.stringify({kind: "field", x_l0: x, y_l0: y}))
}

// --- the connection

function connect() {
  socket = new WebSocket(new URL("messages", location.href.replace(/^http/, "ws")))
  socket.binaryType = "arraybuffer"
  socket.onopen = () => { tellFault(""); outlines.again(); changed() }
  socket.onmessage = ({data}) => {
    if (typeof data === "string") {
      const message = JSON.parse(data)
      if (message.kind === "progress") tellProgress(message)
      else tellFields(message)
      return
    }
    const length = new DataView(data).getUint32(0, true)
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)))
    const planes = data.slice(4 + length)
    if (header.kind === "map") drawing.takeMap(header, planes)
    else outlines.take(header, planes)
    soon()
  }
  socket.onclose = () => {
    tellFault("The viewer has been stopped; start it again with the same command, and open its new address.")
    setTimeout(connect, AGAIN_MS)
  }
}

// --- hands

function setLevel(level) {
  outlines.level = level
  here("level").value = level
  const {inner, nucleus, outer} = scene.outlines
  here("level-words").textContent = level === nucleus ? `${level}, as measured`
    : level === inner ? `${level}, the inner outline` : level === outer ? `${level}, the outer outline` : `${level}`
  here("level-back").hidden = level === nucleus
  changed()
}

const switches = {
  outlines: on => { outlines.on = on; if (on) outlines.again() },
  map: on => { drawing.with_map = on },
  grid: on => { drawing.with_grid = on },
}
for (const [name, turn] of Object.entries(switches))
  here(`with-${name}`).addEventListener("change", ({target}) => { turn(target.checked); changed() })
const toggle = name => here(`with-${name}`).click()

here("level").addEventListener("input", ({target}) => setLevel(Number(target.value)))
here("level-back").addEventListener("click", () => setLevel(scene.outlines.nucleus))
here("opacity").addEventListener("input", ({target}) => { drawing.opacity = target.value / 100; changed() })
here("add-field").addEventListener("click", () => mark())

const one_to_one = () => view.go({scale: 1 / view.density})
const actions = {
  "zoom-in": () => view.zoom(ZOOM_STEP), "zoom-out": () => view.zoom(1 / ZOOM_STEP),
  "zoom-whole": () => view.whole(), "zoom-one": one_to_one,
}
for (const [name, act] of Object.entries(actions)) here(name).addEventListener("click", act)

const keys = {
  "+": actions["zoom-in"], "=": actions["zoom-in"], "-": actions["zoom-out"],
  "0": actions["zoom-whole"], "1": one_to_one,
  o: () => toggle("outlines"), m: () => toggle("map"), g: () => toggle("grid"), f: () => mark(),
  ArrowRight: () => choose(drawing.chosen + 1), ArrowDown: () => choose(drawing.chosen + 1),
  ArrowLeft: () => choose(drawing.chosen < 0 ? -1 : drawing.chosen - 1),
  ArrowUp: () => choose(drawing.chosen < 0 ? -1 : drawing.chosen - 1),
  "[": () => setLevel(Math.max(outlines.level - 1, 2)), "]": () => setLevel(Math.min(outlines.level + 1, 255)),
}
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return
  const is_slider = event.target.type === "range"
  const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key]
  if (act === undefined || (is_slider && event.key.startsWith("Arrow"))) return
  event.preventDefault()
  act()
})

const tip = here("tip")
canvas.addEventListener("pointermove", event => {
  const box = canvas.getBoundingClientRect()
  const [x, y] = view.toSlide(event.clientX - box.left, event.clientY - box.top)
  const cell = event.buttons ? null : drawing.cellAt(x, y)
  const is_on = x >= 0 && y >= 0 && x < scene.size_l0[0] && y < scene.size_l0[1]
  tip.hidden = cell === null || !is_on
  if (tip.hidden) return
  const value = permille => permille > 1000 ? "no value" : `${(permille / 10).toFixed(1)} %`
  const band = cell.density > 1000 || cell.low === cell.high ? "" : ` (${(cell.low / 10).toFixed(1)}–${(cell.high / 10).toFixed(1)})`
  tip.replaceChildren(
    element("b", value(cell.density)), band + "  ", scene.kinds[cell.kind], element("br"),
    `square ${drawing.squareAt(x, y)}`, element("br"),
    element("small", `x ${Math.floor(x).toLocaleString("en")}, y ${Math.floor(y).toLocaleString("en")} px`))
  const [right, below] = [event.clientX + 16, event.clientY + 16]
  tip.style.left = `${Math.min(right, innerWidth - tip.offsetWidth - 8)}px`
  tip.style.top = `${below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : below}px`
})
canvas.addEventListener("pointerleave", () => { tip.hidden = true })

new ResizeObserver(() => {
  const was_ready = view.width > 1
  view.resize()
  if (!was_ready) view.whole(true)
}).observe(canvas)
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed)
setLevel(scene.outlines.nucleus)
connect()
requestAnimationFrame(frame)
globalThis.viewer = {view, pyramid, outlines, drawing, choose, setLevel}
