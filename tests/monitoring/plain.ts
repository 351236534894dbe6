// The types of @grafana/schema, for JSON: an enumeration is the texts or numbers that it stands for, and a panel has the options of its type.
import type { AnnotationQuery, Dashboard, Panel, RowPanel } from "@grafana/schema/dist/types/raw/dashboard/x/dashboard_types.gen.d.ts";
import type { Options as Heatmap } from "@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen.d.ts";
import type { Options as Stat } from "@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen.d.ts";
import type { Options as StateTimeline } from "@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen.d.ts";
import type { Options as Table } from "@grafana/schema/dist/types/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen.d.ts";
import type { Options as TimeSeries } from "@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen.d.ts";

export type Plain<T> = T extends string
    ? `${T}`
    : T extends number
      ? `${T}` extends `${infer N extends number}` ? N : T
      : T extends boolean | null | undefined
        ? T
        : T extends (infer U)[]
          ? Plain<U>[]
          : T extends object
            ? { [K in keyof T]: Plain<T[K]> }
            : T;

type Of<Name extends string, Options> = Omit<Plain<Panel>, "type" | "options"> & {
    type: Name;
    options: Partial<Plain<Options>>;
};

export type CheckedPanel =
    | Of<"stat", Stat>
    | Of<"timeseries", TimeSeries>
    | Of<"table", Table>
    | Of<"heatmap", Heatmap>
    | Of<"state-timeline", StateTimeline>
    | (Omit<Plain<RowPanel>, "panels"> & { panels: [] });

// What the data source Prometheus adds to an annotation.
type Annotation = Plain<AnnotationQuery> & { expr: string; titleFormat: string };

export type CheckedDashboard = Omit<Plain<Dashboard>, "panels" | "annotations"> & {
    annotations: { list: Annotation[] };
    panels: CheckedPanel[];
};
