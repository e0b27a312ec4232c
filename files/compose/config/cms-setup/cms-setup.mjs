// Prepares Directus's database: tables, the inventory's administrator and the account of the api, the schema file. Runs
// once inside Directus's image, and changes only differences. It decides by the content of the database, so it can be
// killed at any time and run again.
import { createRequire } from 'node:module';
import { randomUUID } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';
import './subscriber.mjs';
import { additions, losses, names } from './schema.mjs';

const DEADLINE = Number(process.env.CMS_SETUP_DEADLINE ?? 120); // seconds to wait for the database
const SETUP_FILE = '/openmates/setup.json'; // {schema: a snapshot or null, force: whether to accept another version's}

// The users that the inventory declares, each with a tag by which it is found again. The api, its workers and site.yml
// log in with an account of their own: a second factor would lock them out of the administrator's, which a person uses.
const ADMINISTRATOR = { mark: 'openmates-admin', what: 'administrator', email: 'ADMIN_EMAIL', secret: 'ADMIN_PASSWORD_FILE' };
const ACCOUNT = { mark: 'openmates-account', what: 'account of the api', email: 'CMS_SETUP_ACCOUNT', secret: 'CMS_SETUP_ACCOUNT_SECRET', alone: true };

process.env.PGOPTIONS = '-c lock_timeout=60s'; // waiting for a lock fails with an error instead of hanging
process.env.SERVE_APP = 'false'; // otherwise Directus would bundle extensions for a Data Studio that is not used here

class Problem extends Error {}

const say = (text) => console.log(`cms-setup: ${text}`);
const directus = createRequire(`${process.cwd()}/`); // what /directus can load
const api = createRequire(directus.resolve('@directus/api/package.json')); // what Directus's API can load

async function load(module) {
	try {
		return await import(pathToFileURL(directus.resolve(`@directus/api/${module}`)));
	} catch (error) {
		throw new Problem(`this Directus image has no usable ${module}: ${error.message}`);
	}
}

async function waitForDatabase(database) {
	const place = `${process.env.DB_HOST}:${process.env.DB_PORT}`;
	for (const end = Date.now() + DEADLINE * 1000; ; ) {
		try {
			return await database.raw('select 1');
		} catch (error) {
			if (error.code === '28P01' || error.code === '28000') {
				throw new Problem(`the database at ${place} refuses the user ${process.env.DB_USER}. Run site.yml again: the database takes a new openmates_database_password when its container starts. docs/directus.md has the remedy for one that was changed by hand.`);
			}
			if (error.code === '3D000') throw new Problem(`the server at ${place} has no database ${process.env.DB_DATABASE}.`);
			if (Date.now() > end) throw new Problem(`no database at ${place} within ${DEADLINE} s: ${error.message}`);
		}
		await new Promise((resolve) => setTimeout(resolve, 500));
	}
}

// ---------------------------------------------------------------- tables

async function tablesOf(database) {
	const rows = await database('information_schema.tables').select('table_name').where({ table_schema: 'public', table_type: 'BASE TABLE' });
	return rows.map((row) => row.table_name);
}

async function isEmpty(database, tables, table) {
	return !tables.includes(table) || (await database(table).first()) === undefined;
}

// An interrupted first set-up leaves tables that Directus treats as a finished installation. As long as no user could
// log in, there is nothing to lose: it starts over.
async function clearHalfDone(database) {
	const tables = await tablesOf(database);
	if (tables.length === 0) return;
	for (const table of ['directus_users', 'directus_files', 'directus_collections', 'directus_flows']) {
		if (!(await isEmpty(database, tables, table))) return;
	}
	if (tables.some((table) => !table.startsWith('directus_'))) return;
	say('an earlier set-up was cut off before there was an administrator: beginning anew');
	await database.raw(`drop table ${tables.map(() => '??').join(', ')} cascade`, tables);
}

function bootstrap() {
	const handler = import.meta.resolve('./subscriber.mjs');
	const done = spawnSync(process.execPath, ['--import', handler, 'cli.js', 'bootstrap'], { stdio: 'inherit' });
	if (done.status !== 0) {
		throw new Problem(`Directus's bootstrap failed (${done.signal ?? `exit code ${done.status}`}); its reason stands above.`);
	}
}

// All migrations in one transaction, unlike in Directus: a run that is killed or fails leaves the database unchanged.
async function migrate(database, version) {
	const folder = dirname(directus.resolve('@directus/api/database/migrations/run'));
	const known = readdirSync(folder).map((file) => /^[0-9]+[A-Z](?=-)/.exec(file)?.[0]).filter(Boolean);
	const newest = known.sort().at(-1);
	const done = (await database('directus_migrations').select('version')).map((row) => row.version);
	const newer = done.filter((item) => item > newest && /^[0-9]+[A-Z]$/.test(item));
	if (newer.length > 0) {
		throw new Problem(
			`the database was set up by a newer Directus than this ${version}: it has the migration ${newer.sort().at(-1)}. ` +
				'Nothing was touched. Go back to that version (openmates_directus_image), or bring back a dump of before the upgrade.',
		);
	}
	const missing = known.filter((item) => !done.includes(item));
	if (missing.length === 0) return;
	say(`${missing.length} migrations to Directus ${version}`);
	const { default: run } = await load('database/migrations/run');
	try {
		await database.transaction((transaction) => run(transaction, 'latest'));
	} catch (error) {
		throw new Problem(`Directus's migrations failed, and all of them were undone: ${error.message}`);
	}
}

// ---------------------------------------------------------------- the administrator and the api's account

async function administrators(database) {
	return database('directus_users')
		.distinct('directus_users.id', 'directus_users.email', 'directus_users.role')
		.join('directus_access', 'directus_access.role', 'directus_users.role')
		.join('directus_policies', 'directus_policies.id', 'directus_access.policy')
		.where('directus_policies.admin_access', true);
}

async function adminRole(database) {
	const row = await database('directus_access')
		.join('directus_policies', 'directus_policies.id', 'directus_access.policy')
		.join('directus_roles', 'directus_roles.id', 'directus_access.role')
		.where('directus_policies.admin_access', true)
		.orderByRaw(`directus_roles.name <> 'Administrator', directus_roles.id`)
		.first('directus_roles.id as id');
	return row?.id;
}

const tagsOf = (user) => (typeof user.tags === 'string' ? JSON.parse(user.tags) : user.tags) ?? [];

// A declared user: by its address, otherwise the one with the tag; the administrator otherwise the only one.
async function findUser(database, { mark, alone }, email) {
	const users = database('directus_users');
	const byEmail = await users.clone().whereRaw('lower(email) = ?', [email.toLowerCase()]).first();
	if (byEmail) return byEmail;
	const marked = await users.clone().whereRaw('tags::text like ?', [`%"${mark}"%`]).first();
	if (marked || alone) return marked;
	const ids = (await administrators(database)).map((user) => user.id);
	const others = (await users.clone().whereIn('id', ids)).filter((user) => !tagsOf(user).includes(ACCOUNT.mark));
	return others.length === 1 ? others[0] : undefined;
}

async function declareUser(database, role, user, generateHash) {
	const email = process.env[user.email];
	const password = readFileSync(process.env[user.secret].replace(/^string:/, ''), 'utf8').trim();
	const found = await findUser(database, user, email);
	if (!found) {
		await database('directus_users').insert({
			id: randomUUID(), first_name: user.alone ? 'OpenMates' : 'Admin', last_name: user.alone ? 'API' : 'User', email, role,
			password: await generateHash(password), status: 'active', provider: 'default', tags: JSON.stringify([user.mark]),
		});
		say(`${user.what} ${email}: made`);
		return;
	}
	const changes = {};
	if (found.email?.toLowerCase() !== email.toLowerCase()) changes.email = email;
	if (found.status !== 'active') changes.status = 'active';
	if (found.provider !== 'default') changes.provider = 'default';
	if (!(await administrators(database)).some((one) => one.id === found.id)) changes.role = role;
	const verifies = found.password && (await api('argon2').verify(found.password, password).catch(() => false));
	if (!verifies) changes.password = await generateHash(password);
	if (user.alone && found.tfa_secret) changes.tfa_secret = null; // a person's second factor stays
	if (!tagsOf(found).includes(user.mark)) changes.tags = JSON.stringify([...tagsOf(found), user.mark]);
	if (Object.keys(changes).length === 0) return;
	await database('directus_users').update(changes).where({ id: found.id });
	// End all sessions that were opened with the former password.
	if (changes.password || changes.email) await database('directus_sessions').delete().where({ user: found.id });
	say(`${user.what} ${email}: ${Object.keys(changes).sort().join(', ')} as in the inventory`);
}

async function declareUsers(database, { generateHash, createAdmin, getSchema }) {
	if (!(await adminRole(database))) {
		say('there is no role of administrators: making one');
		await createAdmin(await getSchema({ database, bypassCache: true }), { email: '', password: '' });
	}
	const role = await adminRole(database);
	if (!role) throw new Problem('Directus has no role of administrators, and none could be made.');
	await declareUser(database, role, ADMINISTRATOR, generateHash);
	if (process.env[ACCOUNT.email]) await declareUser(database, role, ACCOUNT, generateHash);
}

// ---------------------------------------------------------------- the schema

function readSetup() {
	try {
		return JSON.parse(readFileSync(SETUP_FILE, 'utf8'));
	} catch (error) {
		throw new Problem(`${SETUP_FILE} cannot be used: ${error.message}`);
	}
}

// Before anything is changed, so that an upgrade does not stop half-way.
function checkSchema({ schema, force }, version) {
	if (schema === null) return;
	for (const part of ['collections', 'fields', 'relations']) {
		if (!Array.isArray(schema?.[part])) throw new Problem(`the schema file is no snapshot of Directus: it has no list of ${part}.`);
	}
	const collections = new Set(schema.collections.map((item) => item.collection));
	for (const { collection, field } of [...schema.fields, ...schema.relations]) {
		if (!collections.has(collection) && !collection?.startsWith('directus_')) {
			throw new Problem(`the schema file has a field ${collection}.${field}, but no collection ${collection}. Nothing was touched.`);
		}
	}
	if (schema.directus !== version && !force) {
		throw new Problem(
			`the schema file was created by Directus ${schema.directus}, and this is ${version}. Nothing was changed. ` +
				'Set openmates_directus_schema_force: true to apply it all the same, then take a new snapshot (directus_schema.yml).',
		);
	}
}

async function applySchema({ schema, force }, { SchemaService, getVersionedHash }) {
	const service = new SchemaService({ accountability: { admin: true, role: null, user: null, roles: [], app: true, ip: null } });
	const compare = async () => {
		const current = await service.snapshot();
		const diff = await service.diff(structuredClone(schema), { currentSnapshot: current, force });
		return { hash: getVersionedHash(current), diff: additions(diff), lost: losses(diff) };
	};
	const { hash, diff, lost } = await compare();
	if (lost.length > 0) {
		throw new Problem(
			`the schema file would change objects with data: ${lost.join('; ')}. The schema was not changed. ` +
				'See directus_schema.yml, which does it when told with directus_schema_data_loss=true.',
		);
	}
	const changes = names(diff);
	if (changes.length === 0) return;
	say(`schema: ${changes.join('; ')}`);
	try {
		await service.apply({ hash, diff }); // one transaction
	} catch (error) {
		throw new Problem(`Directus cannot apply the schema file, and applied nothing of it: ${error.message}`);
	}
	const left = names((await compare()).diff);
	if (left.length > 0) throw new Problem(`the schema is not as in the file after it was applied: ${left.join('; ')}`);
}

// For the readiness probe: the expected collections and fields. Only if the Compose file requests it: with OpenMates'
// own cms-setup, which creates the collections, this program sets Directus up without a schema.
function writeExpected({ schema }) {
	const file = process.env.CMS_SETUP_EXPECTED;
	if (!file) return;
	const collections = {};
	for (const { collection, schema: table } of schema?.collections ?? []) if (table) collections[collection] = [];
	for (const { collection, field } of schema?.fields ?? []) (collections[collection] ??= []).push(field);
	try {
		const source = schema ? (process.env.CMS_SETUP_SOURCE ?? 'a schema file') : '';
		writeFileSync(`${file}.part`, `${JSON.stringify({ source, collections }, null, 1)}\n`);
		renameSync(`${file}.part`, file);
	} catch (error) {
		throw new Problem(`${file} cannot be written: ${error.message}. site.yml hands its volume over to this user.`);
	}
}

// ---------------------------------------------------------------- main

async function main() {
	const { version } = await import(pathToFileURL(api.resolve('directus/version')));
	const setup = readSetup();
	checkSchema(setup, version);
	const { default: getDatabase, validateMigrations } = await load('database/index');
	const database = getDatabase();
	await waitForDatabase(database);
	await clearHalfDone(database);
	if ((await tablesOf(database)).length === 0) bootstrap();
	else await migrate(database, version);
	if (!(await validateMigrations())) throw new Problem('Directus still has migrations to do.');
	const parts = {};
	for (const module of ['utils/generate-hash', 'utils/create-admin', 'utils/get-schema', 'utils/get-versioned-hash', 'services/schema']) {
		Object.assign(parts, await load(module));
	}
	await declareUsers(database, parts);
	if (setup.schema !== null) await applySchema(setup, parts);
	writeExpected(setup);
	await parts.flushCaches?.(true);
	say(`Directus ${version} is set up${setup.schema === null ? '' : ', its schema as in the file'}`);
}

main().then(
	() => process.exit(0),
	(error) => {
		const told = error instanceof Problem || error.code === 'INVALID_PAYLOAD' || error.code === 'LIMIT_EXCEEDED';
		console.error(`cms-setup: failed: ${told ? error.message : error.stack}`);
		process.exit(1);
	},
);
