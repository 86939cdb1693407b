// The slide itself: its overview at once, and over it pictures as they come.

const MOST_KEPT = 128, MOST_UNDER_WAY = 6, BLUR = 0.3

export class Pyramid {
  constructor(scene, view, changed, failed) {
    this.view = view
    this.changed = changed
    this.failed = failed
    this.zooms = scene.zooms
    this.side = scene.picture_px
    this.size = scene.size_l0
    this.kept = new Map()  // "zoom/column/row" to a picture, the one used last at the end
    this.under_way = new Map()
    this.lost = new Set()
    this.overview = new Image()
    this.overview.onload = changed
    this.overview.src = "overview.jpg"
  }

  // width and height of a picture in level-0 px
  extent(zoom) { return this.view.stretch.map(stretch => this.side * 2 ** zoom / stretch) }

  // the coarsest zoom that loses nothing on this screen; null where the overview is as good
  zoom() {
    const fits = Math.floor(-Math.log2(this.view.at.scale * this.view.density) + BLUR)
    const zooms = this.zooms.filter(zoom => zoom <= Math.max(fits, 0))
    if (!zooms.length) return null
    const shrink = this.size[0] / Math.max(1, this.overview.naturalWidth)
    return 2 ** fits >= shrink ? null : Math.max(...zooms)
  }

  inSight(zoom) {
    const [width, height] = this.extent(zoom)
    const [left, top, right, bottom] = this.view.box()
    const places = []
    const [columns, rows] = [Math.ceil(this.size[0] / width), Math.ceil(this.size[1] / height)]
    const last = [Math.min(columns, Math.ceil(right / width)), Math.min(rows, Math.ceil(bottom / height))]
    for (let row = Math.max(0, Math.floor(top / height)); row < last[1]; row++)
      for (let column = Math.max(0, Math.floor(left / width)); column < last[0]; column++)
        places.push({zoom, column, row, key: `${zoom}/${column}/${row}`})
    const {x, y} = this.view.at
    const far = ({column, row}) => Math.hypot((column + 0.5) * width - x, (row + 0.5) * height - y)
    return places.sort((a, b) => far(a) - far(b))
  }

  draw(context) {
    const zoom = this.zoom()
    const wanted = zoom === null ? [] : this.inSight(zoom)
    const [left, top] = this.view.toScreen(0, 0)
    const [right, bottom] = this.view.toScreen(...this.size)
    context.save()
    context.beginPath()
    context.rect(left, top, right - left, bottom - top)
    context.clip()
    context.fillStyle = "#f4f2f4"
    context.fillRect(left, top, right - left, bottom - top)
    context.imageSmoothingQuality = "high"
    if (this.overview.complete && this.overview.naturalWidth)
      context.drawImage(this.overview, left, top, right - left, bottom - top)
    const ready = new Set(wanted.filter(({key}) => this.kept.has(key)).map(({key}) => key))
    const below = [...this.kept.values()].filter(({key}) => zoom !== null && !ready.has(key))
    if (ready.size < wanted.length)
      for (const picture of below.sort((a, b) => b.zoom - a.zoom))
        if (picture.zoom !== zoom) this.paint(context, picture)
    for (const {key} of wanted)
      if (ready.has(key)) {
        const picture = this.kept.get(key)
        this.kept.delete(key)
        this.kept.set(key, picture)
        this.paint(context, picture)
      }
    context.restore()
    this.ask(wanted)
    return wanted.every(({key}) => this.kept.has(key) || this.lost.has(key))
  }

  paint(context, {zoom, column, row, bitmap}) {
    const [width, height] = this.extent(zoom)
    const [left, top] = this.view.toScreen(column * width, row * height)
    const [right, bottom] = this.view.toScreen((column + 1) * width, (row + 1) * height)
    if (right < 0 || bottom < 0 || left > this.view.width || top > this.view.height) return
    // whole device px, so that no seam shows between pictures
    const snap = value => Math.round(value * this.view.density) / this.view.density
    context.drawImage(bitmap, snap(left), snap(top), snap(right) - snap(left), snap(bottom) - snap(top))
  }

  ask(wanted) {
    const keys = new Set(wanted.map(({key}) => key))
    for (const [key, request] of this.under_way)
      if (!keys.has(key)) {
        request.abort()
        this.under_way.delete(key)
      }
    for (const place of wanted) {
      if (this.under_way.size >= MOST_UNDER_WAY) break
      const {key} = place
      if (this.kept.has(key) || this.under_way.has(key) || this.lost.has(key)) continue
      const request = new AbortController()
      this.under_way.set(key, request)
      this.load(place, request).catch(error => {
        if (error.name !== "AbortError") this.lose(key, "the viewer has been stopped")
      }).finally(() => {
        if (this.under_way.get(key) === request) this.under_way.delete(key)
        this.changed()
      })
    }
  }

  async load(place, request) {
    const answer = await fetch(`${place.key}.jpg`, {signal: request.signal})
    if (!answer.ok) {
      this.lose(place.key, answer.status === 410 ? await answer.text() : "")
      return
    }
    const bitmap = await createImageBitmap(await answer.blob())
    this.kept.set(place.key, {...place, bitmap})
    while (this.kept.size > MOST_KEPT) {
      const [oldest, picture] = this.kept.entries().next().value
      picture.bitmap.close()
      this.kept.delete(oldest)
    }
  }

  lose(key, why) {
    this.lost.add(key)
    if (why) this.failed(why)
    setTimeout(() => this.lost.delete(key), 5000)  // then it is tried again, if it is in sight
  }
}
