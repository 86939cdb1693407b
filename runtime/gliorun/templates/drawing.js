// What lies over the slide: its map, the named squares, hot spots, regions, fields, the scale bar.

const INK = "#1d2430", FONT = "'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
const NEAR_OPACITY = 0.25  // share of the map's opacity that is left where single nuclei are seen
const MOST_HATCHED = 3000

export class Drawing {
  constructor(scene, view) {
    this.scene = scene
    this.view = view
    this.map = null
    this.opacity = 0.6
    this.with_map = this.with_grid = true
    this.spots = []
    this.fields = []
    this.chosen = -1
    this.hatching = hatching()
  }

  takeMap(header, planes) {
    const {rows, columns, cell_l0} = header, cells = rows * columns
    const [density, low, high] = [0, 1, 2].map(at => new Uint16Array(planes, 2 * at * cells, cells))
    const kinds = new Uint8Array(planes, 6 * cells, cells)
    const picture = document.createElement("canvas")
    picture.width = columns
    picture.height = rows
    const context = picture.getContext("2d"), image = context.createImageData(columns, rows)
    const colours = new Uint32Array(image.data.buffer), table = this.colours()
    for (let at = 0; at < cells; at++) colours[at] = table[kinds[at]]
    context.putImageData(image, 0, 0)
    this.map = {rows, columns, cell_l0, density, low, high, kinds, picture}
  }

  // of every kind of cell, as little-endian RGBA
  colours() {
    const {colours, statuses, paler, no_value} = this.scene
    const rgba = (colour, alpha) => {
      const [red, green, blue] = [1, 3, 5].map(at => parseInt(colour.slice(at, at + 2), 16))
      return (alpha << 24 | blue << 16 | green << 8 | red) >>> 0
    }
    const of_status = Array.from({length: statuses}, (_, status) => status > 1 ? rgba(no_value, 255) : 0)
    return [...colours.map(colour => rgba(colour, 255)), ...of_status,
            ...colours.map(colour => rgba(colour, paler))]
  }

  cellAt(x, y) {
    if (this.map === null) return null
    const {rows, columns, cell_l0, kinds, density, low, high} = this.map
    const [column, row] = [Math.floor(x / cell_l0[0]), Math.floor(y / cell_l0[1])]
    if (column < 0 || row < 0 || column >= columns || row >= rows) return null
    const at = row * columns + column
    return {row, column, kind: kinds[at], density: density[at], low: low[at], high: high[at]}
  }

  squareAt(x, y) {
    const [width, height] = this.scene.side_l0, [columns, rows] = this.scene.squares
    const within = (value, count) => Math.min(Math.max(Math.floor(value + 1e-6), 0), count - 1)
    return rowName(within(y / height, rows)) + (within(x / width, columns) + 1)
  }

  // the map and the lines of the squares, which lie under the outlines
  drawUnder(context, nearness) {
    const {view, scene} = this
    const [left, top] = view.toScreen(0, 0), [right, bottom] = view.toScreen(...scene.size_l0)
    context.save()
    context.beginPath()
    context.rect(left, top, right - left, bottom - top)
    context.clip()
    if (this.map !== null && this.with_map) this.drawMap(context, nearness)
    if (this.with_grid) this.drawGrid(context)
    context.restore()
  }

  drawOver(context) {
    const {scene} = this
    for (const rings of scene.drawn) this.drawRings(context, rings, scene.region)
    for (const [at, box] of this.fields.entries()) this.drawBox(context, box, "#2e90fa", `field ${at + 1}`, [6, 4])
    for (const [at, spot] of this.spots.entries())
      this.drawBox(context, boxOf(spot), INK, `${spot.rank}`, [], at === this.chosen)
    if (this.with_grid) this.nameSquares(context)
    this.drawScale(context)
  }

  drawMap(context, nearness) {
    const {rows, columns, cell_l0, picture, kinds} = this.map
    const [left, top] = this.view.toScreen(0, 0)
    const [right, bottom] = this.view.toScreen(columns * cell_l0[0], rows * cell_l0[1])
    const opacity = this.opacity * (1 - (1 - NEAR_OPACITY) * nearness)
    this.pale(context, opacity)
    context.globalAlpha = opacity
    context.imageSmoothingEnabled = false
    context.drawImage(picture, left, top, right - left, bottom - top)
    const [wide, high] = [(right - left) / columns, (bottom - top) / rows]
    const first = [Math.max(0, Math.floor(-left / wide)), Math.max(0, Math.floor(-top / high))]
    const last = [Math.min(columns, Math.ceil((this.view.width - left) / wide)),
                  Math.min(rows, Math.ceil((this.view.height - top) / high))]
    if (wide >= 6 && (last[0] - first[0]) * (last[1] - first[1]) <= MOST_HATCHED) {
      const classes = this.scene.classes.length
      context.beginPath()
      for (let row = first[1]; row < last[1]; row++)
        for (let column = first[0]; column < last[0]; column++) {
          const status = kinds[row * columns + column] - classes
          if (status > 1 && status < this.scene.statuses)
            context.rect(left + column * wide, top + row * high, wide, high)
        }
      context.fillStyle = context.createPattern(this.hatching, "repeat")
      context.fill()
    }
    context.globalAlpha = 1
  }

  // Under the map the slide loses its colour, so that a class keeps its own.
  pale(context, opacity) {
    context.globalAlpha = opacity
    context.globalCompositeOperation = "saturation"
    context.fillStyle = "#808080"
    context.fillRect(0, 0, this.view.width, this.view.height)
    context.globalCompositeOperation = "source-over"
    context.globalAlpha = opacity / 2
    context.fillStyle = "#ffffff"
    context.fillRect(0, 0, this.view.width, this.view.height)
  }

  drawGrid(context) {
    const {view, scene} = this, [columns, rows] = scene.squares
    context.strokeStyle = `${INK}55`
    context.lineWidth = 1
    context.beginPath()
    for (let column = 1; column < columns; column++) {
      const [x] = view.toScreen(column * scene.side_l0[0], 0)
      context.moveTo(Math.round(x) + 0.5, 0)
      context.lineTo(Math.round(x) + 0.5, view.height)
    }
    for (let row = 1; row < rows; row++) {
      const [, y] = view.toScreen(0, row * scene.side_l0[1])
      context.moveTo(0, Math.round(y) + 0.5)
      context.lineTo(view.width, Math.round(y) + 0.5)
    }
    context.stroke()
  }

  // Names stand at the upper and the left border of the screen, in the middle of what is seen.
  nameSquares(context) {
    const {view, scene} = this
    const [left, top, right, bottom] = view.box()
    const name = (count, side, length, from, to, text, place) => {
      for (let at = 0; at < count; at++) {
        const [start, end] = [Math.max(at * side, from), Math.min((at + 1) * side, length, to)]
        if (end > start) place(text(at), (start + end) / 2, end - start)
      }
    }
    name(scene.squares[0], scene.side_l0[0], scene.size_l0[0], left, right, at => `${at + 1}`,
         (text, x, wide) => {
           if (wide * view.at.scale > 18) label(context, text, view.toScreen(x, 0)[0], 13)
         })
    name(scene.squares[1], scene.side_l0[1], scene.size_l0[1], top, bottom, rowName,
         (text, y, high) => {
           if (high * view.at.scale > 18) label(context, text, 15, view.toScreen(0, y)[1])
         })
  }

  drawBox(context, [x, y, end_x, end_y], colour, text, dashes, is_chosen = false) {
    const [left, top] = this.view.toScreen(x, y), [right, bottom] = this.view.toScreen(end_x, end_y)
    if (right < 0 || bottom < 0 || left > this.view.width || top > this.view.height) return
    for (const [style, width] of [["#ffffff", is_chosen ? 6 : 4.5], [colour, is_chosen ? 3 : 2]]) {
      context.strokeStyle = style
      context.lineWidth = width
      context.setLineDash(style === colour ? dashes : [])
      context.strokeRect(left, top, right - left, bottom - top)
    }
    context.setLineDash([])
    context.font = `600 12px ${FONT}`
    const wide = context.measureText(text).width + 10
    const [x_text, y_text] = [Math.max(left, 0), Math.max(top, 0)]
    context.fillStyle = colour
    context.fillRect(x_text, y_text, wide, 20)
    context.fillStyle = "#ffffff"
    context.textAlign = "left"
    context.textBaseline = "middle"
    context.fillText(text, x_text + 5, y_text + 10.5)
  }

  drawRings(context, rings, colour) {
    context.beginPath()
    for (const ring of rings)
      ring.forEach(([x, y], at) => {
        const place = this.view.toScreen(x, y)
        if (at) context.lineTo(...place)
        else context.moveTo(...place)
      })
    for (const [style, width] of [["#ffffff", 4], [colour, 2]]) {
      context.strokeStyle = style
      context.lineWidth = width
      context.stroke()
    }
  }

  drawScale(context) {
    const {view, scene} = this
    const um_a_px = view.mpp / view.at.scale, most_um = 180 * um_a_px
    const power = 10 ** Math.floor(Math.log10(most_um))
    const um = [5, 2, 1].map(part => part * power).find(length => length <= most_um) ?? power
    const wide = um / um_a_px, [x, y] = [14, view.height - 14]
    const length = um >= 1000 ? `${um / 1000} mm` : `${um} µm`
    // as eyepieces have it: 10 µm of an objective's magnification are a px of a camera of 10 µm
    const objective = 10 / um_a_px
    const text = `${length}   ${objective >= 10 ? Math.round(objective) : objective.toPrecision(2)}×`
    context.font = `600 12px ${FONT}`
    const box = Math.max(wide, context.measureText(text).width) + 20
    context.fillStyle = "#ffffffd9"
    context.fillRect(x - 10, y - 26, box, 36)
    context.fillStyle = INK
    context.fillRect(x, y, wide, 3)
    context.fillRect(x, y - 4, 2, 7)
    context.fillRect(x + wide - 2, y - 4, 2, 7)
    context.textAlign = "left"
    context.textBaseline = "alphabetic"
    context.fillText(text, x, y - 9)
    this.scale = {um, px: wide, objective, text}
  }
}

export const boxOf = ({minx, miny, width, height}) => [minx, miny, minx + width, miny + height]

// A … Z, AA, AB …, as in spreadsheets
export function rowName(index) {
  let name = ""
  for (let left = index + 1; left; left = Math.floor((left - 1) / 26))
    name = String.fromCharCode(65 + (left - 1) % 26) + name
  return name
}

function label(context, text, x, y) {
  context.font = `600 12px ${FONT}`
  const wide = context.measureText(text).width + 10
  context.fillStyle = "#ffffffd9"
  context.fillRect(x - wide / 2, y - 9, wide, 18)
  context.fillStyle = INK
  context.textAlign = "center"
  context.textBaseline = "middle"
  context.fillText(text, x, y + 0.5)
}

function hatching() {
  const picture = document.createElement("canvas")
  picture.width = picture.height = 8
  const context = picture.getContext("2d")
  context.strokeStyle = "#475467"
  context.beginPath()
  for (const at of [-8, 0, 8]) {
    context.moveTo(at - 1, 9)
    context.lineTo(at + 9, -1)
  }
  context.stroke()
  return picture
}
