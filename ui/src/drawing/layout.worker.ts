import { type LayoutJob, layOut } from "./layout.ts";

const scope = self as unknown as {
  onmessage: (message: MessageEvent<LayoutJob>) => void;
  postMessage: (message: unknown, moved: Transferable[]) => void;
};

scope.onmessage = ({ data }) => {
  layOut(data, (news) => scope.postMessage(news, news.places ? [news.places.buffer] : []));
};
