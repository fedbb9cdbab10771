// What this browser keeps: the device's record with its key, the last decisions, and settings. Nothing here is sent.

const DATABASE = "sigil-device";
const VERSION = 1;
/** Decisions that the browser keeps. */
const KEPT_DECISIONS = 50;
// An open connection of an older page blocks a change of the version: it closes itself, see onversionchange.
const OPEN_TIMEOUT_MS = 5_000;

/** The browser keeps nothing for this page: it is a private window, storage is off, full, or held by another page. */
export class StorageRefused extends Error {
  /** @param {"off" | "blocked" | "full"} reason */
  constructor(reason, cause) {
    super(`storage: ${reason}`, { cause });
    this.reason = reason;
  }
}

function openDatabase() {
  return new Promise((resolve, reject) => {
    let request;
    try {
      request = indexedDB.open(DATABASE, VERSION);
    } catch (error) {
      reject(new StorageRefused("off", error));
      return;
    }
    const timer = setTimeout(() => reject(new StorageRefused("blocked")), OPEN_TIMEOUT_MS);
    request.onupgradeneeded = () => {
      const database = request.result;
      database.createObjectStore("devices", { keyPath: "serverId" });
      database.createObjectStore("decisions", { autoIncrement: true });
      database.createObjectStore("values");
    };
    request.onerror = () => {
      clearTimeout(timer);
      const { name } = request.error ?? {};
      // VersionError: a later release has changed the database; this page is the older one.
      const reason = { QuotaExceededError: "full", VersionError: "blocked" }[name] ?? "off";
      reject(new StorageRefused(reason, request.error));
    };
    request.onsuccess = () => {
      clearTimeout(timer);
      resolve(request.result);
    };
  });
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Opens the database once; the page and the worker each have a Store of their own. */
export class Store {
  #database;

  static async open() {
    const store = new Store();
    store.#adopt(await openDatabase());
    return store;
  }

  #adopt(database) {
    this.#database = database;
    // A later release changes the version in another tab: this page must not hold it up.
    database.onversionchange = () => database.close();
    // Browsers close connections when they evict data or suspend a page: the next use opens it again.
    database.onclose = () => (this.#database = null);
  }

  async #run(names, mode, work) {
    let transaction;
    try {
      transaction = this.#database.transaction(names, mode, { durability: "strict" });
    } catch {
      this.#adopt(await openDatabase());
      transaction = this.#database.transaction(names, mode, { durability: "strict" });
    }
    const finished = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(new StorageRefused("full", transaction.error));
    });
    // A failed request aborts its transaction; `finished` then reports why.
    const [result] = await Promise.all([work(transaction), finished]);
    return result;
  }

  /** The record of the device, null before enrolment. One origin is one server, so there is one record at most. */
  async device() {
    const records = await this.#run("devices", "readonly", (run) => settled(run.objectStore("devices").getAll()));
    return records[0] ?? null;
  }

  /** Replaces the record: an origin has one device. */
  saveDevice(record) {
    return this.#run("devices", "readwrite", (run) => {
      run.objectStore("devices").clear();
      return settled(run.objectStore("devices").put(record));
    });
  }

  /** Changes members of the stored record, if it is still of the same key: another tab may have replaced it. */
  changeDevice(fingerprint, changes) {
    return this.#run("devices", "readwrite", async (run) => {
      const devices = run.objectStore("devices");
      const record = (await settled(devices.getAll()))[0];
      if (record?.fingerprint !== fingerprint) return null;
      const changed = { ...record, ...changes };
      await settled(devices.put(changed));
      return changed;
    });
  }

  /** Removes the device with its key, its decisions and its settings. */
  clear() {
    return this.#run(["devices", "decisions", "values"], "readwrite", (run) => {
      for (const name of ["devices", "decisions"]) run.objectStore(name).clear();
      return settled(run.objectStore("values").clear());
    });
  }

  /** @param {{id: string, type: string, outcome: string, description: string, at: number}} decision */
  addDecision(decision) {
    return this.#run("decisions", "readwrite", async (run) => {
      const decisions = run.objectStore("decisions");
      await settled(decisions.add(decision));
      const keys = await settled(decisions.getAllKeys());
      const surplus = keys.slice(0, Math.max(0, keys.length - KEPT_DECISIONS));
      for (const key of surplus) decisions.delete(key);
    });
  }

  /** The newest first. */
  async decisions(limit = KEPT_DECISIONS) {
    const all = await this.#run("decisions", "readonly", (run) => settled(run.objectStore("decisions").getAll()));
    return all.reverse().slice(0, limit);
  }

  /** A value by name; undefined if there is none. */
  get(name) {
    return this.#run("values", "readonly", (run) => settled(run.objectStore("values").get(name)));
  }

  set(name, value) {
    return this.#run("values", "readwrite", (run) => settled(run.objectStore("values").put(value, name)));
  }

  /** Stores what `change` makes of a value, in one transaction: the worker and other tabs write too. */
  update(name, change) {
    return this.#run("values", "readwrite", async (run) => {
      const values = run.objectStore("values");
      await settled(values.put(change(await settled(values.get(name))), name));
    });
  }

  remove(name) {
    return this.#run("values", "readwrite", (run) => settled(run.objectStore("values").delete(name)));
  }
}

/** Requests that the browser evicts nothing of this page when space is short. False if it does not promise that. */
export async function keepStorage() {
  try {
    return (await navigator.storage.persisted()) || (await navigator.storage.persist());
  } catch {
    return false;
  }
}
