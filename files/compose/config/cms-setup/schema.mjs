// Classifies differences between Directus's schema and a snapshot. The project's module directus_schema has the same
// logic in Python; a test compares the two.

// Changes of these properties of a column can lose or truncate its data.
const LOSING = ['type', 'schema.data_type', 'schema.max_length', 'schema.numeric_precision', 'schema.numeric_scale'];
const WORDS = { collections: 'collection', fields: 'field', systemFields: 'system field', relations: 'relation' };

const whole = (entry, kind) => entry.diff.some((change) => change.kind === kind && !(change.path?.length > 0));
const placeOf = (entry) => (entry.field ? `${entry.collection}.${entry.field}` : entry.collection);
const pathOf = (change) => (change.path ?? []).join('.');

// Fields to remove and create again: a field with a column cannot become one without, or the reverse.
function replaced(diff) {
	const removed = new Set((diff?.fields ?? []).filter((entry) => whole(entry, 'D')).map(placeOf));
	return (diff?.fields ?? []).filter((entry) => whole(entry, 'N') && removed.has(placeOf(entry))).map(placeOf);
}

// The part of a difference that removes nothing. Directus would delete objects that the snapshot does not have.
export function additions(diff) {
	const gone = replaced(diff);
	const keeps = (entry) => !whole(entry, 'D') && !(whole(entry, 'N') && entry.field && gone.includes(placeOf(entry)));
	return Object.fromEntries(Object.keys(WORDS).map((part) => [part, (diff?.[part] ?? []).filter(keeps)]));
}

// Every difference by name, such as "field articles.title: created".
export function names(diff) {
	return Object.entries(WORDS).flatMap(([part, word]) =>
		(diff?.[part] ?? []).map((entry) => {
			const place = `${word} ${placeOf(entry)}`;
			if (whole(entry, 'N')) return `${place}: created`;
			if (whole(entry, 'D')) return `${place}: removed`;
			return `${place}: ${[...new Set(entry.diff.map(pathOf))].sort().join(', ')} corrected`;
		}),
	);
}

const shorter = (change) => change.rhs !== null && (change.lhs === null || change.rhs < change.lhs);

// Changes of existing columns that can lose data, by name. Removals are in `names`.
export function losses(diff) {
	const gone = replaced(diff);
	return (diff?.fields ?? []).flatMap((entry) => {
		if (whole(entry, 'D')) return gone.includes(placeOf(entry)) ? [`field ${placeOf(entry)} would be removed and created again`] : [];
		return entry.diff
			.filter((change) => change.kind === 'E' && LOSING.includes(pathOf(change)))
			.filter((change) => pathOf(change) !== 'schema.max_length' || shorter(change))
			.map((change) => `field ${placeOf(entry)}: ${pathOf(change)} from ${change.lhs} to ${change.rhs}`);
	});
}
