// The page of the test: the original's SDK, unmodified, and what the test asks of it. What it hears is `heard`.
import { HMSReactiveStore, selectIsConnectedToRoom, selectPeers, selectRoomState, selectSessionStore } from '@100mslive/hms-video-store';

// The SDK reports its own use to its maker's servers. Here nothing leaves the machine.
const fetchAnything = window.fetch;
window.fetch = (input, ...rest) =>
  new URL(input.url ?? input, location).hostname === location.hostname
    ? fetchAnything(input, ...rest)
    : Promise.resolve(new Response('{}', { headers: { 'content-type': 'application/json' } }));
window.connectionsOfMedia = 0;
window.RTCPeerConnection = class {
  constructor() {
    window.connectionsOfMedia += 1;
    throw new Error('nobody negotiates media here');
  }
};

const hms = new HMSReactiveStore();
const actions = hms.getActions();
const store = hms.getStore();
hms.triggerOnSubscribe();

window.heard = [];
window.errors = [];
window.endings = [];
hms.getNotifications().onNotification(({ type, data }) => {
  if (type === 'ERROR') window.errors.push({ code: data.code, message: data.message });
  if (type === 'ROOM_ENDED' || type === 'REMOVED_FROM_ROOM') window.endings.push({ type, reason: data.reason, roomEnded: data.roomEnded });
});

const plainError = error => ({ code: error.code, message: error.message });

// The calls resolve to `{error}` where the SDK throws, so that the test sees its code.
const tried = async promise => {
  try {
    return (await promise) ?? null;
  } catch (error) {
    return { error: plainError(error) };
  }
};

window.peer = {
  join: (initEndpoint, authToken, userName, metaData) => tried(actions.join({ initEndpoint, authToken, userName, metaData })),
  leave: () => tried(actions.leave()),
  observe: keys => {
    for (const key of keys) {
      store.subscribe(value => window.heard.push([key, value === undefined ? 'undefined' : value]), selectSessionStore(key));
    }
    return tried(actions.sessionStore.observe(keys));
  },
  unobserve: keys => tried(actions.sessionStore.unobserve(keys)),
  set: (key, value) => tried(actions.sessionStore.set(key, value)),
  value: key => store.getState(selectSessionStore(key)) ?? null,
  changeMetadata: data => tried(actions.changeMetadata(data)),
  changeName: name => tried(actions.changeName(name)),
  endings: () => window.endings,
  errors: () => window.errors,
  isConnected: () => store.getState(selectIsConnectedToRoom) === true,
  state: () => store.getState(selectRoomState),
  peers: () =>
    store
      .getState(selectPeers)
      .map(({ name, roleName, metadata, customerUserId }) => ({ name, role: roleName, metadata: metadata ?? '', user: customerUserId ?? '' }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
};
