// The course of a figure, as a line without axes.
export default {
  props: { values: Array, tone: String, label: String },
  computed: {
    points() {
      const values = (this.values || []).map((v, i) => [i, v]).filter(([, v]) => v != null);
      if (values.length < 2) return [];
      const found = values.map(([, v]) => v);
      const low = Math.min(...found), high = Math.max(...found), last = this.values.length - 1;
      const y = (v) => (high === low ? (high ? 14 : 25) : 25 - ((v - low) / (high - low)) * 22);
      return values.map(([i, v]) => [(i / last) * 120, y(v)]);
    },
    line() {
      return this.points.map(([x, y]) => x.toFixed(1) + "," + y.toFixed(1)).join(" ");
    },
    area() {
      const p = this.points;
      return p.length ? p[0][0].toFixed(1) + ",28 " + this.line + " " + p[p.length - 1][0].toFixed(1) + ",28" : "";
    },
  },
  template: `
    <svg class="spark" :class="tone" viewBox="0 0 120 28" preserveAspectRatio="none" role="img" :aria-label="label">
      <polygon :points="area" /><polyline :points="line" vector-effect="non-scaling-stroke" />
    </svg>`,
};
