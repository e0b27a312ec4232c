// ioredis 5.8.2, Directus's client of the cache, sometimes sends its ready check on a connection that has already
// subscribed, and the check is rejected (redis/ioredis 2037). ioredis reconnects, but the rejection is unhandled, so
// Node.js ends the program first. Only this rejection is handled here; any other still ends the program.
const SUBSCRIBED = 'Connection in subscriber mode, only subscriber commands may be used';

process.on('unhandledRejection', (error) => {
	if (error?.message !== SUBSCRIBED) throw error;
	console.error('Reconnecting to the cache');
});
