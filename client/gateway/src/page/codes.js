// The names of docs/protocol.md for what a call can end with.

const NAMES = new Map([
  [-32700, "ParseError"],
  [-32600, "InvalidRequest"],
  [-32601, "MethodNotFound"],
  [-32602, "InvalidParams"],
  [-32603, "InternalError"],
  [-32000, "CallFailed"],
  [-32001, "DeadlineExceeded"],
  [-32002, "WorkerLost"],
  [-32003, "Overloaded"],
  [-32004, "Cancelled"],
  [-32005, "TooLarge"],
  [-32006, "Forbidden"],
  [-32007, "Draining"],
  [-32008, "BadReply"],
]);

/** Workers may make up codes of their own. */
export const nameOf = (code) => NAMES.get(code) ?? `error ${code ?? "without a code"}`;
