// Directus's client of the cache, ioredis 5.8.2, now and then asks a connection that has just subscribed whether
// it is ready, which the cache refuses (redis/ioredis 2037). The client connects again by itself, but Node.js ends the
// program first, because nobody handles the rejection. This handles that one, and no other.
const SUBSCRIBED = 'Connection in subscriber mode, only subscriber commands may be used';

process.on('unhandledRejection', (error) => {
	if (error?.message !== SUBSCRIBED) throw error;
	console.error('The connection to the cache is made again');
});
