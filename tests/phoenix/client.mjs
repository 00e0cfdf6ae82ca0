// The stock client of Phoenix Channels on one topic: tells what it hears, one JSON object a line, until its input ends.
import { Socket } from "phoenix"
import { WebSocket } from "ws"

const [url, topic] = process.argv.slice(2)
const names = ["node_up", "node_down", "node_changed", "link_up", "link_down", "topology_update", "cursor"]
const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n")

const authToken = process.env.AUTH_TOKEN
const socket = new Socket(url, { transport: WebSocket, authToken, reconnectAfterMs: () => 20, rejoinAfterMs: () => 20 })
let cursor
const channel = socket.channel(topic, () => (cursor === undefined ? {} : { since: cursor }))

for (const name of names) {
  channel.on(name, (payload) => {
    cursor = payload.cursor
    tell({ event: name, revision: payload.revision, subject: payload.subject })
  })
}
channel.onError((reason) => tell({ error: reason ?? null }))
channel.onClose(() => tell({ closed: true }))
channel.join()
  .receive("ok", (answer) => {
    cursor = answer.cursor
    tell({ joined: cursor, nodes: answer.snapshot?.nodes?.map((node) => node.name) ?? null })
  })
  .receive("error", (answer) => tell({ refused: answer.reason }))
socket.onOpen(() => tell({ open: true }))
socket.connect()

let leaving = false
process.stdin.on("data", () => {
  leaving = true
  channel.leave().receive("ok", () => tell({ left: true }))
})
process.stdin.on("end", () => socket.disconnect(() => process.exit(leaving ? 0 : 1)))
