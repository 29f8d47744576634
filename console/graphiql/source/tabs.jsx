// In place of framer-motion: tabs that are not dragged, 130 kB less to load.

const Group = ({ values, onReorder, axis, ...shown }) => <ul {...shown} />;
const Item = ({ value, ...shown }) => <li {...shown} />;

export const Reorder = { Group, Item };
