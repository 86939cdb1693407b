// What the network sees of the tiles in sight: outlines at any level, and the density of the sight.

const LEAST_PX_A_PX = 0.4, MOST_WANTED = 80, MOST_KEPT = 160

export class Outlines {
  constructor(scene, view, send) {
    this.scene = scene
    this.view = view
    this.send = send
    this.tiles = new Map()  // "column/row" to a tile, the one used last at the end
    this.asked = ""
    this.on = true
    this.level = scene.outlines.nucleus
    this.side = scene.tile_px
    this.strokes = document.createElement("canvas")
    this.drawn = null
    this.version = 0
  }

  // CSS px that one px of the model takes
  get magnification() {
    return this.view.at.scale * this.scene.model_mpp / this.view.mpp
  }

  get isNear() { return this.magnification >= LEAST_PX_A_PX && this.inSight().length <= MOST_WANTED }

  box(column, row) {
    const [width, height] = this.scene.tile_l0
    return [Math.round(column * width), Math.round(row * height),
            Math.round((column + 1) * width), Math.round((row + 1) * height)]
  }

  inSight() {
    const [width, height] = this.scene.tile_l0
    const [left, top, right, bottom] = this.view.box()
    const last = [Math.min(this.scene.tiles[0], Math.ceil(right / width)),
                  Math.min(this.scene.tiles[1], Math.ceil(bottom / height))]
    const places = []
    for (let row = Math.max(0, Math.floor(top / height)); row < last[1]; row++)
      for (let column = Math.max(0, Math.floor(left / width)); column < last[0]; column++)
        places.push([column, row])
    const {x, y} = this.view.at
    const far = ([column, row]) =>
      Math.hypot((column + 0.5) * width - x, (row + 0.5) * height - y)
    return places.sort((a, b) => far(a) - far(b))
  }

  // Asks for the tiles in sight that are not there yet; each asking replaces the one before.
  want() {
    const wanted = this.on && this.isNear
      ? this.inSight().filter(place => !this.tiles.has(place.join("/"))) : []
    const text = JSON.stringify({kind: "tiles", places: wanted})
    if (text === this.asked) return
    const [before, now] = [this.places, new Set(wanted.map(place => place.join("/")))]
    const isLess = before && [...now].every(key => before.has(key)) &&
      [...before].every(key => now.has(key) || this.tiles.has(key))
    this.asked = text
    this.places = now
    if (!isLess) this.send(text)  // what has come meanwhile need not be taken back
  }

  // After the connection was lost, everything is asked for anew.
  again() {
    this.asked = ""
    this.places = null
  }

  take(header, planes) {
    const [column, row] = header.place
    const tile = {column, row, status: header.status, cells: header.cells, segments: null}
    if (header.cells) {
      const of_cells = header.cells ** 2, px = this.side ** 2
      tile.share = new Float32Array(planes.slice(0, 4 * of_cells))
      tile.levels = new Uint8Array(planes, 4 * of_cells, px)
      tile.counts = header.counts ? new Uint8Array(planes, 4 * of_cells + px, px) : null
    }
    this.tiles.set(`${column}/${row}`, tile)
    while (this.tiles.size > MOST_KEPT) this.tiles.delete(this.tiles.keys().next().value)
    this.version++
  }

  used(key) {
    const tile = this.tiles.get(key)
    if (tile !== undefined) {
      this.tiles.delete(key)
      this.tiles.set(key, tile)
    }
    return tile
  }

  // Density of what is seen: nucleus px / px of tissue, by the pixels whose middles are in sight.
  // As in the map, no cell counts more nucleus than it has tissue.
  sight() {
    const [left, top, right, bottom] = this.view.box()
    const sum = {nucleus: 0, area: 0, tiles: 0, missing: 0, without: 0}
    for (const place of this.inSight()) {
      const tile = this.tiles.get(place.join("/"))
      sum.tiles++
      if (tile === undefined) sum.missing++
      else if (!tile.cells) sum.without += tile.status !== "no tissue"
      else this.count(tile, [left, top, right, bottom], sum)
    }
    sum.density = sum.area > 0 ? sum.nucleus / sum.area : null
    return sum
  }

  count(tile, [left, top, right, bottom], sum) {
    const {side, level} = this, {levels, counts, share} = tile
    const [x, y, end_x, end_y] = this.box(tile.column, tile.row)
    const px = (place, start, end) =>
      Math.min(Math.max(Math.ceil((place - start) / (end - start) * side - 0.5), 0), side)
    const [first_column, last_column] = [px(left, x, end_x), px(right, x, end_x)]
    const [first_row, last_row] = [px(top, y, end_y), px(bottom, y, end_y)]
    const cell = side / tile.cells
    for (let cell_row = Math.floor(first_row / cell); cell_row * cell < last_row; cell_row++)
      for (let cell_column = Math.floor(first_column / cell); cell_column * cell < last_column; cell_column++) {
        const from = Math.max(first_column, cell_column * cell)
        const to = Math.min(last_column, (cell_column + 1) * cell)
        const until = Math.min(last_row, (cell_row + 1) * cell)
        let nucleus = 0, counted = 0
        for (let row = Math.max(first_row, cell_row * cell); row < until; row++)
          for (let at = row * side + from, end = row * side + to; at < end; at++)
            if (counts === null || counts[at]) {
              counted++
              if (levels[at] >= level) nucleus++
            }
        const area = counted * share[cell_row * tile.cells + cell_column]
        sum.area += area
        sum.nucleus += Math.min(nucleus, area)
      }
  }

  // Lines around what reaches the level, in px of the tile (marching squares): they part the
  // middles of pixels that reach it from those that do not, and run between by the levels.
  segments(tile) {
    if (tile.segments !== null && tile.at_level === this.level) return tile.segments
    const {side} = this, {levels} = tile, bar = this.level - 0.5, lines = []
    const at = index => Math.min(Math.max(index + 0.5, 0), side)
    for (let row = -1; row < side; row++) {
      const above = Math.max(row, 0) * side, under = Math.min(row + 1, side - 1) * side
      const top = at(row), high = at(row + 1) - top
      let a = levels[above], d = levels[under]
      for (let column = -1; column < side; column++) {
        const next = Math.min(column + 1, side - 1)
        const b = levels[above + next], c = levels[under + next]
        const shape = (a > bar) | (b > bar) << 1 | (c > bar) << 2 | (d > bar) << 3
        if (shape !== 0 && shape !== 15) {
          const left = at(column), wide = at(column + 1) - left
          const north = [left + wide * (bar - a) / (b - a), top]
          const east = [left + wide, top + high * (bar - b) / (c - b)]
          const south = [left + wide * (bar - d) / (c - d), top + high]
          const west = [left, top + high * (bar - a) / (d - a)]
          const join = (from, to) => lines.push(from[0], from[1], to[0], to[1])
          switch (shape) {
            case 1: case 14: join(west, north); break
            case 2: case 13: join(north, east); break
            case 3: case 12: join(west, east); break
            case 4: case 11: join(east, south); break
            case 6: case 9: join(north, south); break
            case 7: case 8: join(south, west); break
            case 5: join(west, north); join(east, south); break
            case 10: join(north, east); join(south, west); break
          }
        }
        a = b
        d = c
      }
    }
    tile.segments = new Float32Array(lines)
    tile.at_level = this.level
    return tile.segments
  }

  // Draws the outlines; while the view moves, those of a moment ago move with it.
  draw(context, is_calm) {
    if (!this.on || !this.isNear) return
    const {view} = this, now = JSON.stringify([view.at, view.width, view.height, this.level, this.version])
    if (this.drawn === null || (this.drawn.state !== now && (is_calm || this.drawn.age++ > 8))) {
      this.stroke()
      this.drawn = {state: now, box: view.box(), age: 0}
    }
    const [left, top] = view.toScreen(...this.drawn.box.slice(0, 2))
    const [right, bottom] = view.toScreen(...this.drawn.box.slice(2))
    context.drawImage(this.strokes, left, top, right - left, bottom - top)
  }

  stroke() {
    const {strokes, view, side} = this
    strokes.width = view.canvas.width
    strokes.height = view.canvas.height
    const context = strokes.getContext("2d")
    context.setTransform(view.density, 0, 0, view.density, 0, 0)
    context.strokeStyle = this.scene.outline
    context.lineWidth = Math.min(2, 1.1 + 0.3 * this.magnification)
    context.lineCap = "round"
    for (const place of this.inSight()) {
      const tile = this.used(place.join("/"))
      if (tile === undefined || !tile.cells) continue
      const [x, y, end_x, end_y] = this.box(...place)
      const [left, top] = view.toScreen(x, y), [right, bottom] = view.toScreen(end_x, end_y)
      const [across, down] = [(right - left) / side, (bottom - top) / side]
      const lines = this.segments(tile)
      context.beginPath()
      for (let at = 0; at < lines.length; at += 4) {
        context.moveTo(left + across * lines[at], top + down * lines[at + 1])
        context.lineTo(left + across * lines[at + 2], top + down * lines[at + 3])
      }
      context.stroke()
    }
  }
}
