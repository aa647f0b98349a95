// A table of data: cells are always text, rows may be links.
export default {
  props: {
    columns: Array,
    rows: Array,
    label: String,
    empty: String,
    fresh: Boolean,
    stacked: { type: Boolean, default: true },
  },
  emits: ["pick"],
  data: () => ({ seen: null, marks: {} }),
  watch: {
    rows(rows) {
      if (!this.fresh) return;
      const keys = rows.map((row) => row.key);
      const before = this.seen || new Set(keys);
      const added = keys.filter((key) => !before.has(key));
      this.marks = added.length > 4 ? {} : Object.fromEntries(added.map((key) => [key, true])); // a flood is no news
      this.seen = new Set(keys);
    },
  },
  mounted() {
    this.seen = new Set((this.rows || []).map((row) => row.key));
  },
  methods: {
    share(cell) {
      return Math.max(0, Math.min(1, cell.share)) * 100 + "%";
    },
    half(cell) {
      const size = Math.min(1, Math.abs(cell.delta)) * 50;
      return cell.delta < 0 ? { right: "50%", width: size + "%" } : { left: "50%", width: size + "%" };
    },
    pick(row, event) {
      if (row.href && !event.target.closest("a")) {
        if (event.metaKey || event.ctrlKey) window.open(row.href);
        else window.location.assign(row.href);
      } else if (!row.href) this.$emit("pick", row.key);
    },
  },
  template: `
    <div class="grid-scroll" tabindex="-1">
      <table class="grid" :class="{ stacked }" :aria-label="label">
        <thead><tr><th v-for="c in columns" :key="c.key" scope="col" :class="'k-' + c.kind">{{ c.label }}</th></tr></thead>
        <tbody>
          <tr v-for="row in rows" :key="row.key"
              :class="{ open: row.href || row.pick, on: row.on, fresh: marks[row.key] }" @click="pick(row, $event)">
            <td v-for="(c, i) in columns" :key="c.key" :class="['k-' + c.kind, row.cells[i].tone]" :data-label="c.label"
                :title="row.cells[i].title">
              <a v-if="i === 0 && row.href" :href="row.href" class="quiet">{{ row.cells[i].text }}</a>
              <button v-else-if="i === 0 && row.pick" class="quiet" @click.stop="$emit('pick', row.key)">{{ row.cells[i].text }}</button>
              <span v-else-if="c.kind === 'chip' && row.cells[i].text" class="chip" :class="row.cells[i].tone">{{ row.cells[i].text }}</span>
              <span v-else-if="c.kind === 'score' && row.cells[i].share != null" class="score" :class="row.cells[i].tone">
                <i aria-hidden="true"><b :style="{ width: share(row.cells[i]) }"></b></i>{{ row.cells[i].text }}</span>
              <span v-else-if="c.kind === 'delta' && row.cells[i].delta != null" class="delta">
                <i aria-hidden="true"><b :class="row.cells[i].delta < 0 ? 'down' : 'up'" :style="half(row.cells[i])"></b></i><span>{{ row.cells[i].text }}</span></span>
              <template v-else>{{ row.cells[i].text }}</template>
            </td>
          </tr>
          <tr v-if="!rows.length"><td class="nothing" :colspan="columns.length">{{ empty }}</td></tr>
        </tbody>
      </table>
    </div>`,
};
