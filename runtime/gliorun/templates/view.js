// Which part of the slide is seen, and how hands move it.
//
// `x`, `y` is the level-0 px in the middle, `scale` how many CSS px show one px of the finer axis.

const WHEEL = 0.0016, STEP = 1.6, CALM_MS = 90, FLIGHT_MS = 130, SETTLED = 0.002, RIM = 0.04
const MOST_PX_A_PX = 12

export class View {
  constructor(canvas, scene, changed) {
    this.canvas = canvas
    this.size = scene.size_l0
    const finest = Math.min(...scene.mpp)
    this.stretch = scene.mpp.map(mpp => mpp / finest)
    this.mpp = finest
    this.changed = changed
    this.pointers = new Map()
    this.at = {x: 0, y: 0, scale: 1}
    this.goal = {...this.at}
    this.pace = CALM_MS
    this.listen()
  }

  resize() {
    const {width, height} = this.canvas.getBoundingClientRect()
    const density = devicePixelRatio || 1
    this.width = Math.max(1, width)
    this.height = Math.max(1, height)
    this.density = density
    this.canvas.width = Math.round(this.width * density)
    this.canvas.height = Math.round(this.height * density)
    this.changed()
  }

  get least() { return 0.5 * this.fitting([0, 0, ...this.size]) }

  fitting([left, top, right, bottom]) {
    return Math.min(this.width / ((right - left) * this.stretch[0]),
                    this.height / ((bottom - top) * this.stretch[1])) * (1 - 2 * RIM)
  }

  // screen px of a level-0 px, and back
  toScreen(x, y) {
    const {at, stretch} = this
    return [(x - at.x) * stretch[0] * at.scale + this.width / 2,
            (y - at.y) * stretch[1] * at.scale + this.height / 2]
  }

  toSlide(x, y, of = this.at) {
    return [of.x + (x - this.width / 2) / (of.scale * this.stretch[0]),
            of.y + (y - this.height / 2) / (of.scale * this.stretch[1])]
  }

  // left, top, right, bottom of what is seen, in level-0 px
  box() { return [...this.toSlide(0, 0), ...this.toSlide(this.width, this.height)] }

  show(box, {at_once = false, rim = 0} = {}) {
    const [left, top, right, bottom] = box
    const [x_rim, y_rim] = [rim * (right - left), rim * (bottom - top)]
    const wider = [left - x_rim, top - y_rim, right + x_rim, bottom + y_rim]
    this.go({x: (left + right) / 2, y: (top + bottom) / 2, scale: this.fitting(wider)}, at_once)
  }

  whole(at_once = false) { this.show([0, 0, ...this.size], {at_once}) }

  go(place, at_once = false) {
    this.goal = this.bounded({...this.goal, ...place})
    this.pace = FLIGHT_MS
    if (at_once || matchMedia("(prefers-reduced-motion: reduce)").matches) this.at = {...this.goal}
    this.changed()
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [x_l0, y_l0] = this.toSlide(x, y, this.goal)
    const scale = this.bounded({...this.goal, scale: this.goal.scale * factor}).scale
    this.goal = this.bounded({
      x: x_l0 - (x - this.width / 2) / (scale * this.stretch[0]),
      y: y_l0 - (y - this.height / 2) / (scale * this.stretch[1]),
      scale,
    })
    this.pace = CALM_MS
    this.changed()
  }

  move(dx, dy) {
    const [x, y] = [dx / (this.at.scale * this.stretch[0]), dy / (this.at.scale * this.stretch[1])]
    this.goal = this.bounded({...this.at, x: this.at.x - x, y: this.at.y - y})
    this.at = {...this.goal}
    this.changed()
  }

  bounded({x, y, scale}) {
    const within = (value, most) => Math.min(Math.max(value, 0), most)
    return {x: within(x, this.size[0]), y: within(y, this.size[1]),
            scale: Math.min(Math.max(scale, this.least), MOST_PX_A_PX)}
  }

  // Moves towards the goal; tells whether it has not arrived. Middle and 1 / scale go evenly, so
  // that the point under the pointer stays there.
  step(passed_ms) {
    const {at, goal} = this
    const share = 1 - Math.exp(-Math.min(passed_ms, 100) / this.pace)
    const apart = Math.max(Math.abs(Math.log(goal.scale / at.scale)),
                           Math.hypot(goal.x - at.x, goal.y - at.y) * at.scale / 200)
    if (apart < SETTLED) {
      const moved = apart > 0
      this.at = {...goal}
      return moved
    }
    const inverse = 1 / at.scale + share * (1 / goal.scale - 1 / at.scale)
    this.at = {x: at.x + share * (goal.x - at.x), y: at.y + share * (goal.y - at.y),
               scale: 1 / inverse}
    return true
  }

  listen() {
    const {canvas, pointers} = this
    const place = event => {
      const box = canvas.getBoundingClientRect()
      return [event.clientX - box.left, event.clientY - box.top]
    }
    canvas.addEventListener("wheel", event => {
      event.preventDefault()
      const px = event.deltaMode === 1 ? 32 * event.deltaY : event.deltaY
      const steps = event.ctrlKey ? 5 * px : px  // a pinch of the touchpad comes as Ctrl + wheel
      this.zoom(Math.exp(-WHEEL * Math.min(Math.max(steps, -400), 400)), ...place(event))
    }, {passive: false})
    canvas.addEventListener("dblclick", event => {
      this.zoom(event.shiftKey ? 1 / STEP ** 2 : STEP ** 2, ...place(event))
    })
    canvas.addEventListener("pointerdown", event => {
      if (event.button !== 0) return
      canvas.setPointerCapture(event.pointerId)
      canvas.classList.add("held")
      pointers.set(event.pointerId, place(event))
    })
    canvas.addEventListener("pointermove", event => {
      const before = pointers.get(event.pointerId)
      if (before === undefined) return
      const now = place(event)
      const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1]
      pointers.set(event.pointerId, now)
      if (other === undefined) {
        this.move(now[0] - before[0], now[1] - before[1])
        return
      }
      const apart = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]))
      const middle = ([x, y]) => [(x + other[0]) / 2, (y + other[1]) / 2]
      const [from, to] = [middle(before), middle(now)]
      this.move(to[0] - from[0], to[1] - from[1])
      this.zoom(apart(now) / apart(before), ...to)
      this.at = {...this.goal}
    })
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
      canvas.addEventListener(end, event => {
        pointers.delete(event.pointerId)
        if (!pointers.size) canvas.classList.remove("held")
      })
  }
}

export const ZOOM_STEP = STEP
