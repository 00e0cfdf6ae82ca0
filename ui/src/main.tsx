import { render } from "preact";
import { useEffect } from "preact/hooks";
import { startAlerts } from "./data/alerts.ts";
import { feedState, startLive } from "./data/live.ts";
import { startPast } from "./data/past.ts";
import { PAGES, route } from "./data/route.ts";
import { readWho } from "./data/session.ts";
import { isPast } from "./data/view.ts";
import { Alerts } from "./pages/alerts.tsx";
import { Events } from "./pages/events.tsx";
import { NodePage } from "./pages/node.tsx";
import { Nodes } from "./pages/nodes.tsx";
import { Overview } from "./pages/overview.tsx";
import { Topology } from "./pages/topology.tsx";
import { Banners } from "./parts/banners.tsx";
import { Header } from "./parts/header.tsx";
import { Strip } from "./parts/strip.tsx";
import { Timeline } from "./parts/timeline.tsx";
import "./style.css";

function App() {
  const { page, name } = route.value;
  useEffect(() => {
    const word = name ?? PAGES.find(({ key }) => key === page)?.word;
    document.title = `${word}: Thunderline`;
  }, [page, name]);
  useEffect(() => {
    document.body.dataset.feed = feedState.value;
  }, [feedState.value]);
  return (
    <>
      <Header />
      <Strip />
      <Banners />
      <main id="main" tabIndex={-1} class={isPast.value ? "past" : ""}>
        {page === "overview" ? (
          <Overview />
        ) : page === "topology" ? (
          <Topology />
        ) : page === "events" ? (
          <Events />
        ) : page === "alerts" ? (
          <Alerts />
        ) : name === null ? (
          <Nodes />
        ) : (
          <NodePage key={name} name={name} />
        )}
      </main>
      <Timeline />
    </>
  );
}

startLive();
startPast();
startAlerts();
void readWho();
render(<App />, document.getElementById("app") as HTMLElement);
