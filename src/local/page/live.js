// What a page of a run that goes on has beside that of one that is over: news, and actions.
const KEPT = 'changefold token';
if (location.hash.length > 1) {
  sessionStorage.setItem(KEPT, location.hash.slice(1));
  history.replaceState(null, '', location.pathname);
}
const token = sessionStorage.getItem(KEPT);
const sources = data.sources;

async function act(action) {
  const answer = await fetch('/actions', { method: 'POST', body: JSON.stringify(action),
    headers: { 'content-type': 'application/json', 'x-changefold-token': token } });
  if (!answer.ok) throw new Error(await answer.text());
  const { done, refused } = await answer.json();
  if (refused !== undefined) throw new Error(refused);
  return done;
}

/** A button that acts, and says at `told` what came of it. */
function acting(label, told, action, says) {
  const button = make('button', label, { type: 'button' });
  button.addEventListener('click', async () => {
    try {
      const answer = await act(action());
      told.textContent = says ? says(answer) : '';
    } catch (error) {
      told.textContent = error.message;
    }
  });
  return button;
}

function section(id, title, before) {
  const part = make('section', undefined, { 'aria-labelledby': id });
  part.append(make('h2', title, { id }));
  before.closest('section').before(part);
  return part;
}

// --- who may act -------------------------------------------------------------------------------
const hands = section('hands', 'Try it', of('shards'));
if (!token) hands.append(make('p', 'This page only shows. The address that `dev` printed lets you act.', { class: 'soft' }));

const notices = make('ul', undefined, { class: 'notices', 'aria-label': 'notices' });
const standing = make('p', undefined, { role: 'status', 'aria-live': 'polite' });
const told = make('p', undefined, { role: 'status', 'aria-live': 'polite', class: 'soft' });
const pause = acting('Pause', told, () => ({ action: pause.dataset.does }));
if (token) {
  const row = make('p', undefined, { class: 'buttons' });
  row.append(pause, acting('Next call', told, () => ({ action: 'step' })), ' The next call shall ');
  for (const [fault, label] of [['fail', 'fail'], ['time_out', 'time out'], ['crash', 'crash'], ['twice', 'be made twice']]) {
    row.append(acting(label, told, () => ({ action: 'fault', fault })));
  }
  hands.append(row, standing, told);
  putting(hands);
}
hands.append(notices);

function drawControl({ paused, waiting, faults } = {}) {
  pause.textContent = paused ? 'Resume' : 'Pause';
  pause.dataset.does = paused ? 'resume' : 'pause';
  const parts = [paused ? `Paused: ${waiting} call${waiting === 1 ? ' waits' : 's wait'}.` : 'Calls begin by themselves.'];
  if (faults?.length) parts.push(`The next calls: ${faults.join(', ').replaceAll('_', ' ')}.`);
  if (standing.textContent !== parts.join(' ')) standing.textContent = parts.join(' ');
}

/** The form that puts an item or a record. */
function putting(parent) {
  const box = make('details'), form = make('form');
  box.append(make('summary', 'Put an item or a record'), form);
  const labelled = (label, field) => {
    const part = make('label', `${label} `);
    part.append(field);
    form.append(part);
    return field;
  };
  const into = labelled('into', make('select'));
  for (const { name } of sources.tables) into.append(make('option', `table ${name}`, { value: `table:${name}` }));
  for (const name of sources.streams) into.append(make('option', `stream ${name}`, { value: `stream:${name}` }));
  const key = labelled('partition key', make('input', undefined, { value: 'key' }));
  const text = labelled('item in DynamoDB’s JSON, or data', make('textarea', undefined, { rows: 5, spellcheck: 'false' }));
  const chosen = () => { const [kind, ...name] = into.value.split(':'); return [kind, name.join(':')]; };
  const prepare = () => {
    const [kind, name] = chosen();
    key.parentElement.hidden = kind === 'table';
    const table = sources.tables.find(one => one.name === name);
    text.value = kind === 'table' && table ? JSON.stringify(table.key, null, 1) : '{}';
  };
  into.addEventListener('change', prepare);
  prepare();
  const said = make('p', undefined, { role: 'status', 'aria-live': 'polite', class: 'soft' });
  form.append(make('button', 'Put', { type: 'submit' }), said);
  form.addEventListener('submit', async event => {
    event.preventDefault();
    const [kind, name] = chosen();
    try {
      if (kind === 'table') await act({ action: 'put_item', table: name, item: JSON.parse(text.value) });
      else await act({ action: 'put_record', stream: name, key: key.value, data: text.value });
      said.textContent = `Put into ${name} at ${new Date().toLocaleTimeString('en')}.`;
    } catch (error) {
      said.textContent = error.message;
    }
  });
  if (into.options.length) parent.append(box);
}

// --- what is parked ------------------------------------------------------------------------------
const parked = section('parked', 'Parked', of('views'));
const list = make('div', undefined, { class: 'scroll' });
const outcome = make('p', undefined, { role: 'status', 'aria-live': 'polite' });
const envelope = make('pre', undefined, { tabindex: 0, hidden: '', 'aria-label': 'parked records' });
parked.append(list, outcome, envelope);

function drawParked(records) {
  parked.hidden = !records;
  if (!records) return;
  if (!records.length) {
    list.replaceChildren(make('p', 'Nothing is parked.', { class: 'soft' }));
    return;
  }
  const focused = document.activeElement?.dataset?.of;
  const drawn = table(['key', 'position', 'why', 'tries', 'held behind', ''],
    records.map(one => [one.key, one.sequence_number, one.error_code, one.attempts, one.held_behind, '']));
  drawn.querySelectorAll('tbody tr').forEach((line, at) => {
    const { key, source } = records[at], which = action => () => ({ action, key, source });
    const many = (answer, done) => `${key}: ${answer.done} ${done}, ${answer.left} left`
      + answer.failed.map(one => `; ${one.error_code}: ${one.error}`).join('');
    const show = acting('show', outcome, which('show'), answer => {
      envelope.hidden = false;
      envelope.textContent = JSON.stringify(answer, null, 1);
      return '';
    });
    const redrive = acting('redrive', outcome, which('redrive'), answer => many(answer, 'redriven'));
    // What is dropped does not come back, so it takes two presses.
    const drop = make('button', 'drop', { type: 'button' });
    drop.addEventListener('click', () => {
      const sure = acting('drop for good', outcome, which('drop'), answer => many(answer, 'dropped'));
      drop.replaceWith(sure);
      sure.focus();
    });
    const cell = line.lastChild;
    for (const button of token ? [show, redrive, drop] : []) {
      button.dataset.of = `${button.textContent} ${source} ${key}`;
      button.setAttribute('aria-label', `${button.textContent} ${key}`);
      cell.append(button, ' ');
    }
  });
  list.replaceChildren(drawn);
  if (focused) [...list.querySelectorAll('button')].find(button => button.dataset.of === focused)?.focus();
}

function drawNotices(all) {
  notices.replaceChildren(...all.map(notice => make('li', notice)));
}

function drawStanding(all) {
  for (const [name, { checkpoint, age }] of Object.entries(all)) {
    const parts = [];
    if (checkpoint) parts.push(`checkpoint ${checkpoint}`);
    if (age !== null) parts.push(`iterator age ${seconds(age)}`);
    shardOf(name).standing.textContent = parts.join(', ');
  }
}

function drawDesk(desk) {
  drawControl(desk.control ?? undefined);
  drawParked(desk.parked);
  drawNotices(desk.notices);
}

// --- news ----------------------------------------------------------------------------------------
drawDesk(data.desk);
drawStanding(data.standing);
const source = new EventSource(`/events?after=${data.after}`);
let heard = Date.now();
const listen = () => { heard = Date.now(); };
source.addEventListener('open', listen);
// Another run answers at this address: the page begins again with its own.
source.addEventListener('other', () => {
  sessionStorage.removeItem(KEPT);
  location.reload();
});
source.addEventListener('news', event => {
  listen();
  const news = JSON.parse(event.data);
  news.calls.forEach(addCall);
  news.discarded.forEach(addDiscarded);
  if (news.views) drawViews(news.views);
  if (news.desk) drawDesk(news.desk);
  drawStanding(news.standing);
  drawFigures(news.figures);
});
// Each answer ends, and the browser asks again; only silence tells that nobody answers.
setInterval(() => {
  const state = Date.now() - heard < 20000 ? 'Live.' : 'Nobody answers: the run is over, or its program was ended.';
  if (of('state').textContent !== state) of('state').textContent = state;
}, 1000);
