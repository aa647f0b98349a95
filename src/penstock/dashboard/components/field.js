// One labelled input: a text, a number, a choice, a long text, or a switch.
export default {
  props: { label: String, kind: String, value: [String, Number, Boolean], options: Array, placeholder: String, hint: String, quiet: Boolean },
  emits: ["change"],
  data() {
    return { held: this.value };
  },
  watch: {
    value(value) {
      this.held = value;
    },
  },
  methods: {
    said(event) {
      this.held = this.kind === "switch" ? event.target.checked : event.target.value;
      this.$emit("change", this.held);
    },
  },
  template: `
    <label class="field" :class="[kind, { quiet }]">
      <span class="name">{{ label }}</span>
      <select v-if="kind === 'choice'" :value="held" @change="said">
        <option v-for="o in options" :key="o[0]" :value="o[0]">{{ o[1] }}</option>
      </select>
      <textarea v-else-if="kind === 'long'" :value="held" :placeholder="placeholder" rows="4" spellcheck="false" @input="said"></textarea>
      <input v-else-if="kind === 'switch'" type="checkbox" role="switch" :checked="held" @change="said">
      <input v-else :type="kind === 'number' ? 'number' : kind === 'secret' ? 'password' : 'text'" step="any" :value="held"
             :placeholder="placeholder" autocomplete="off" spellcheck="false" @input="said">
      <small v-if="hint">{{ hint }}</small>
    </label>`,
};
