// A dialog of the browser's own: it keeps the focus, and Escape closes it.
export default {
  props: { label: String },
  emits: ["close"],
  methods: {
    show() {
      this.$el.showModal();
    },
    hide() {
      this.$el.close();
    },
  },
  template: `<dialog class="modal" :aria-label="label" @close="$emit('close')"><slot></slot></dialog>`,
};
