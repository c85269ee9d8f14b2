// The screens that few begin with, as a chunk of their own: loaded once the panel is there.

export { Complaint } from "./complaint.tsx";
export { Csat } from "./csat.tsx";
export { Settings } from "./settings.tsx";
export { Ticket } from "./ticket.tsx";
export { Tickets } from "./tickets.tsx";
